"""Sets of several kinds of columns: emoji, stamps with sounds, tweets, clip art, and generated orders and repairs."""

from __future__ import annotations

import csv
import io
import re
from functools import partial
from xml.etree import ElementTree

from benchmarks.stamps_senses import input_columns
from benchmarks.tables.assets import asset
from benchmarks.tables.dataset import Columns, Dataset, sample
from benchmarks.tables.media_sets import EMOJI, common_classes, emoji, relative
from benchmarks.tables.planted_tables import orders, repairs

DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def stamps() -> Columns:
    """Picture, caption, sound effect and spoken description of stamps; most of them have no sound."""
    folder = asset("stamps") / "usr/share/tuxpaint/stamps"
    columns, _ = input_columns(folder)
    del columns["speech_other"]
    for name in ("picture", "effect", "speech"):
        columns[name] = [path and relative([folder / path])[0] for path in columns[name]]
    return columns


def tweets() -> Columns:
    """4,000 tweets of two candidates of 2016: text, date, counts; who wrote it? Links, and names at the beginning of
    repeated tweets, are left out."""
    text = (asset("orange") / "orangecontrib/text/datasets/election-tweets-2016.tab").read_text("utf-8")
    head, _, _, *rows = csv.reader(io.StringIO(text), delimiter="\t")
    at = {name: head.index(name) for name in ("Time", "Content", "Retweet count", "Favorite count", "Author")}
    found: Columns = {"time": [], "text": [], "retweets": [], "favorites": [], "author": []}
    for row in rows:
        if row[head.index("Is retweet")] == "False" and row[at["Content"]]:
            cells = (
                row[at["Time"]],
                re.sub(r"https?://\S+", "", row[at["Content"]]).strip() or None,
                float(row[at["Retweet count"]]),
                float(row[at["Favorite count"]]),
                row[at["Author"]],
            )
            for column, cell in zip(found, cells, strict=True):
                found[column].append(cell)
    return sample(found, 4000)


def clip_art() -> Columns:
    """Picture, title and keywords of clip art; which folder? Shapes and computers are left out, and so are the
    keywords that are words of the folder's path."""
    svg = asset("openclipart_svg") / "usr/share/openclipart/svg"
    png = asset("openclipart_png") / "usr/share/openclipart/png"
    columns: Columns = {"picture": [], "title": [], "keywords": [], "folder": []}
    for path in sorted(svg.rglob("*.svg")):
        place = path.relative_to(svg)
        picture = png / place.with_suffix(".png")
        if place.parts[0] in ("shapes", "computer") or not picture.is_file():
            continue
        title, words = _description(path)
        kept = [word for word in words if word.lower() not in re.split(r"[/_]", place.parent.as_posix())]
        row = (*relative([picture]), title, ", ".join(kept) or None, place.parts[0])
        for column, cell in zip(columns, row, strict=True):
            columns[column].append(cell)
    return common_classes(sample(columns, 1200), "folder", 20)


def _description(path: str | object) -> tuple[str | None, list[str]]:
    """The title and the keywords in the metadata of an SVG file."""
    root = ElementTree.parse(str(path)).getroot()
    title = root.find(f".//{DUBLIN_CORE}title")
    words = root.findall(f".//{DUBLIN_CORE}subject//{RDF}li")
    return (title.text or None) if title is not None else None, [word.text.strip() for word in words if word.text]


SETS = (
    Dataset(
        "emoji",
        "mixed",
        "development",
        "group",
        "accuracy",
        emoji,
        {"picture": "image", "name": "text", "tags": "text"},
        EMOJI,
        seeds=1,
        folds=3,
    ),
    Dataset(
        "stamps",
        "mixed",
        "development",
        "class",
        "accuracy",
        stamps,
        {"picture": "image", "caption": "text", "effect": "sound", "speech": "sound"},
        ("stamps",),
        group="caption",
        seeds=2,
        folds=3,
    ),
    Dataset(
        "tweets",
        "mixed",
        "development",
        "author",
        "accuracy",
        tweets,
        {"time": "date", "text": "text"},
        ("orange",),
        seeds=1,
        folds=3,
    ),
    Dataset(
        "repairs",
        "mixed",
        "development",
        "hours",
        "r2",
        partial(repairs, 5000),
        {"received": "date", "description": "text", "device": "category", "shop": "category"},
        seeds=1,
        folds=3,
    ),
    Dataset(
        "clip_art",
        "mixed",
        "final",
        "folder",
        "accuracy",
        clip_art,
        {"picture": "image", "title": "text", "keywords": "text"},
        ("openclipart_png", "openclipart_svg"),
        seeds=1,
        folds=3,
    ),
    Dataset(
        "orders",
        "mixed",
        "final",
        "days",
        "r2",
        partial(orders, 5000),
        {"ordered": "date", "note": "text", "country": "category", "carrier": "category", "customer": "category"},
        seeds=1,
        folds=3,
    ),
)
