"""Data sets that were already split by their authors: a mapping or folder with train, validation and test rows."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError
from polymodal.data.table.compressed import format_of
from polymodal.data.table.memory import is_table
from polymodal.data.table.readers import SUFFIXES
from polymodal.data.table.tar import TAR

_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
#: A file of a split: `train.csv`, `train-00000-of-00002.parquet`.
_FILE = re.compile(r"([a-z]+)(?:[-_]\d.*)?")


def given_splits(source: Any) -> dict[str, Any] | None:
    """The tables of a source that is already split, by `train`, `validation` and `test`; None for other sources.

    source: a `datasets.DatasetDict` or another mapping of tables, or a folder that has a folder, a file or shards for
        each split, and nothing else that is a table

    Example:
        >>> sorted(given_splits({"train": {"x": [1, 2]}, "val": {"x": [3]}, "test": {"x": [4]}}))
        ['test', 'train', 'validation']
    """
    if isinstance(source, Mapping):
        return _by_name(source) if source and all(is_table(one) for one in source.values()) else None
    if isinstance(source, str | os.PathLike) and os.path.isdir(source):
        return _by_name(_in_folder(Path(source)))
    return None


def check_one_table(source: Path) -> None:
    """Check that a folder does not hold the splits of one data set.

    Raises:
        DataError: it does. Joined, the test rows of the author would be training rows.
    """
    splits = given_splits(source)
    if splits is not None:
        problem = f"the folder holds the splits {', '.join(splits)}: give one of them, such as {splits['train']}"
        raise DataError(problem, file=str(source))


def _by_name(tables: Mapping[str, Any]) -> dict[str, Any] | None:
    names = [_NAMES.get(str(name).lower()) for name in tables]
    if len(names) < 2 or None in names or "train" not in names or len(set(names)) < len(names):
        return None
    return {str(name): table for name, table in zip(names, tables.values(), strict=True)}


def _in_folder(folder: Path) -> dict[str, str]:
    """The folders and files of a folder by the name of their split. Several files of a split, of one format, are the
    pattern of their names."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    visible = [entry for entry in entries if not entry.name.startswith((".", "_"))]
    found = {entry.name: str(entry) for entry in visible if entry.is_dir()}
    files: dict[str, list[Path]] = {}
    for entry in visible:
        if entry.is_file() and format_of(entry) in (*SUFFIXES, TAR):
            matched = _FILE.fullmatch(entry.name.partition(".")[0].lower())
            files.setdefault(matched[1] if matched else entry.name, []).append(entry)
    for name, some in files.items():
        ending = some[0].name[len(some[0].name.partition(".")[0]) :]
        same = all(one.name.endswith(ending) for one in some)
        place = str(some[0]) if len(some) == 1 else str(folder / f"{some[0].name[: len(name)]}*{ending}")
        found[name if same and name not in found else f"{name} {ending}"] = place
    return found
