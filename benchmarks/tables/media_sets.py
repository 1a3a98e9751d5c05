"""Sets of images only and of sounds only."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn import datasets as sklearn_datasets

from benchmarks.emoji_retrieval import COMPONENT_GROUP
from benchmarks.tables.assets import asset, assets_folder
from benchmarks.tables.dataset import Columns, Dataset, sample, take

LANGUAGES = ("bg", "ca", "es", "fr", "ro", "ru")
VOICES = ("en", "es", "fr", "it", "ru")
EMOJI_GROUPS = (
    "smileys",
    "people",
    "components",
    "nature",
    "food",
    "travel",
    "activities",
    "objects",
    "symbols",
    "flags",
)


def relative(paths: list[Path]) -> list[str]:
    return [path.relative_to(assets_folder()).as_posix() for path in paths]


def digit_images() -> Columns:
    """The digits of scikit-learn as PNG files of 8 x 8 pixels, written once."""
    data = sklearn_datasets.load_digits()
    folder = assets_folder() / "made" / "digits"
    paths = [folder / f"{row:04}.png" for row in range(len(data.target))]
    if not paths[-1].is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for path, pixels in zip(paths, data.images, strict=True):
            Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(path)
    return {"image": relative(paths), "digit": [f"digit {label}" for label in data.target.tolist()]}


def emoji() -> Columns:
    """Every emoji without skin tones: picture, name, tags and group. Flags are left out, because their names tell
    nothing else; component parts as well."""
    folder = asset("emoji_pictures") / "package/assets"
    files = {path.stem.lower().replace("-fe0f", ""): path for path in sorted(folder.glob("*.webp"))}
    columns: Columns = {"picture": [], "name": [], "tags": [], "group": []}
    for entry in json.loads((asset("emoji_names") / "package/en/data.json").read_text("utf-8")):
        group = entry.get("group", COMPONENT_GROUP)
        file = files.get(entry["hexcode"].lower().replace("-fe0f", ""))
        if file is None or group in (COMPONENT_GROUP, len(EMOJI_GROUPS) - 1):
            continue
        row = (*relative([file]), entry["label"], ", ".join(entry.get("tags", [])) or None, EMOJI_GROUPS[group])
        for column, cell in zip(columns, row, strict=True):
            columns[column].append(cell)
    return columns


def emoji_pictures() -> Columns:
    columns = emoji()
    return {name: columns[name] for name in ("picture", "group")}


def textiles() -> Columns:
    """1,000 of the simulated textiles: without defect, with a local defect, or with a global defect."""
    root = asset("textiles") / "conformal_clip_data/data/textile_images/simulated"
    found = sorted(root.rglob("*.jpg"))
    return sample({"image": relative(found), "defect": [path.parent.name for path in found]}, 1000)


def spoken_stamps() -> Columns:
    """Spoken descriptions of stamps: which of six languages? 80 clips of each."""
    columns: Columns = {"sound": [], "language": []}
    found = sorted((asset("stamps") / "usr/share/tuxpaint/stamps").rglob("*.ogg"))
    for language in LANGUAGES:
        files = [path for path in found if path.stem.endswith(f"_desc_{language}")]
        drawn = sample({"path": files}, 80)["path"]
        columns["sound"] += relative(drawn)
        columns["language"] += [language] * len(drawn)
    return columns


def voices() -> Columns:
    """Spoken digits, letters and code words of Asterisk: whose voice? Two of the five voices are the same speaker's,
    in two languages. 100 clips of each."""
    columns: Columns = {"sound": [], "voice": []}
    for language in VOICES:
        root = asset(f"prompts_{language}") / "usr/share/asterisk/sounds"
        files = sorted(path for part in ("digits", "letters", "phonetic") for path in root.glob(f"*/{part}/*.wav"))
        drawn = sample({"path": files}, 100)["path"]
        columns["sound"] += relative(drawn)
        columns["voice"] += [f"{language} voice"] * len(drawn)
    return columns


def common_classes(columns: Columns, target: str, fewest: int) -> Columns:
    """The rows of the classes with `fewest` rows or more."""
    sizes = Counter(columns[target])
    return take(columns, [row for row, label in enumerate(columns[target]) if sizes[label] >= fewest])


EMOJI = ("emoji_pictures", "emoji_names")
SETS = (
    Dataset("digits_images", "image", "development", "digit", "accuracy", digit_images, {"image": "image"}, seeds=1),
    Dataset(
        "emoji_pictures",
        "image",
        "development",
        "group",
        "accuracy",
        emoji_pictures,
        {"picture": "image"},
        EMOJI,
        seeds=1,
        folds=3,
    ),
    Dataset(
        "spoken_stamps",
        "sound",
        "development",
        "language",
        "accuracy",
        spoken_stamps,
        {"sound": "sound"},
        ("stamps",),
        seeds=2,
        folds=3,
    ),
    Dataset(
        "textiles",
        "image",
        "final",
        "defect",
        "accuracy",
        textiles,
        {"image": "image"},
        ("textiles",),
        seeds=1,
        folds=3,
    ),
    Dataset(
        "voices",
        "sound",
        "final",
        "voice",
        "accuracy",
        voices,
        {"sound": "sound"},
        tuple(f"prompts_{language}" for language in VOICES),
        seeds=2,
        folds=3,
    ),
)
