"""The kind of media that a cell is meant to be, even if it cannot be read, and the match of a column with a kind."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from polymodal.core.formatting import count_noun, truncate
from polymodal.data.media.formats import (
    AUDIO_SUFFIXES,
    FORMATS,
    IMAGE_SUFFIXES,
    SERIES_SUFFIXES,
    VIDEO_SUFFIXES,
    detect_format,
)
from polymodal.data.media.source import EMPTY_WORDS
from polymodal.data.media.unsupported_formats import UNSUPPORTED, unsupported_format
from polymodal.data.table.cell_kinds import cell_kind
from polymodal.data.table.sample import ColumnSample, Match

#: Longer texts are not paths.
MAX_PATH_LENGTH = 4096
#: Cells that may be any media (a web address without a suffix, bytes of no known format), and empty cells.
ANY, EMPTY = "any", "empty"
_KINDS = dict.fromkeys(IMAGE_SUFFIXES, "image") | dict.fromkeys(AUDIO_SUFFIXES, "audio")
_KINDS |= dict.fromkeys(VIDEO_SUFFIXES | {".mts", ".m2ts", ".vob", ".3gp"}, "video")
_KINDS |= dict.fromkeys(SERIES_SUFFIXES - {".txt"}, "time_series")
_KINDS_OF_FORMATS = {name: one.kind for name, one in UNSUPPORTED.items()}
_KINDS_OF_FORMATS |= dict.fromkeys(("MP4", "Matroska", "AVI", "MPEG"), "video")
_KINDS_OF_FORMATS |= dict.fromkeys(("WAV", "FLAC", "MP3", "AAC"), "audio")
_KINDS_OF_FORMATS |= {"npy": "time_series"} | dict.fromkeys(FORMATS["image"], "image")


def intended_media(cell: Any) -> str | None:
    """The kind of media that a cell is meant to be, `ANY`, or `EMPTY`; None for other cells.

    >>> [intended_media(cell) for cell in ("a.png", "https://a.org/b.HEIC?size=9", "nan", "a red bird")]
    ['image', 'image', 'empty', None]
    """
    if is_missing(cell):
        return EMPTY
    if isinstance(cell, dict):
        return intended_media(inline_or_path(cell)) if cell.keys() <= {"bytes", "path"} else None
    if isinstance(cell, bytes):
        return _KINDS_OF_FORMATS.get(detect_format(cell) or "", ANY)
    if not isinstance(cell, str | PurePath):
        return None
    text = str(cell).strip()
    if text.lower() in EMPTY_WORDS:
        return EMPTY
    if text[:5].lower() == "data:":
        media = text[5:20].partition("/")[0].lower()
        return media if media in FORMATS else ANY
    if len(text) > MAX_PATH_LENGTH or "\n" in text:
        return None
    is_address = "://" in text and " " not in text
    kind = _kind_of_suffix(_path_of_address(text) if is_address else text)
    return kind or (ANY if is_address else None)


def match_media(sample: ColumnSample, media: str, test: Callable[[Any], bool], noun: str) -> Match | None:
    """A match with a column whose cells are meant to be of the kind `media`: more of them than of any other kind, and
    at least as many media as other cells. Empty cells do not count.

    test: whether a cell looks like a usable one of this kind
    """
    if sample.arrow_type is not None and cell_kind(sample.arrow_type) in ("integer", "number", "boolean"):
        return None
    good, first, others, plain = 0, None, Counter[str](), list[Any]()
    for cell in sample.values:
        if not is_missing(cell) and test(cell):
            good += 1
            first = cell if first is None else first
        elif (kind := intended_media(cell)) is None:
            plain.append(cell)
        else:
            others[kind] += 1
    wrong = {kind: count for kind, count in others.items() if kind not in (media, ANY, EMPTY)}
    meant = good + others[media]
    if not meant or meant < max(wrong.values(), default=0) or meant + sum(wrong.values()) < len(plain):
        return None
    filled = good + len(plain) + others.total() - others[EMPTY]
    first = first if first is not None else next(cell for cell in sample.values if intended_media(cell) == media)
    form = "paths" if isinstance(first, str) and intended_media(first) else "data"
    reason = f"{noun} {form} in {meant / filled:.0%} of the rows"
    notes = [count_noun(count, f"{kind} cell") for kind, count in wrong.items()]
    notes += [count_noun(others[ANY], "cell of an unknown kind", "cells of an unknown kind")] if others[ANY] else []
    notes += [f"{count_noun(len(plain), 'other cell')}, such as {truncate(plain[0], 40)!r}"] if plain else []
    return Match(0.97, "; ".join([reason, *notes]))


def looks_like(media: str, cell: Any, suffixes: frozenset[str]) -> bool:
    """Whether a cell is a path with one of `suffixes`, a `data:` address of the kind `media`, bytes that begin like
    one of its formats, or a record of `bytes` and `path` with one of these."""
    if isinstance(cell, dict):
        return looks_like(media, inline_or_path(cell), suffixes)
    if isinstance(cell, str | PurePath):
        text = str(cell)
        return text[: 6 + len(media)].lower() == f"data:{media}/" or PurePath(text).suffix.lower() in suffixes
    return isinstance(cell, bytes) and detect_format(cell) in FORMATS[media]


def inline_or_path(record: dict[str, Any]) -> Any:
    """The bytes in a record of `bytes` and `path` if there are any, else the path."""
    inline = record.get("bytes")
    return inline if inline is not None else record.get("path")


def is_missing(cell: Any) -> bool:
    """Whether a cell is empty: null, NaN, blank text, or a record of nulls."""
    if isinstance(cell, str):
        return not cell.strip()
    if isinstance(cell, dict):
        return all(value is None for value in cell.values())
    return cell is None or (isinstance(cell, float | np.floating) and bool(np.isnan(cell)))


def _kind_of_suffix(path: str) -> str | None:
    suffix = os.path.splitext(path.replace("\\", "/"))[1].lower()
    name = unsupported_format(suffix)
    return _KINDS.get(suffix) if name is None else UNSUPPORTED[name].kind


def _path_of_address(address: str) -> str:
    try:
        return urlsplit(address).path
    except ValueError:  # not an address after all
        return ""
