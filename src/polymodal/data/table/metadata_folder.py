"""Folders of media with a file `metadata.csv` or `metadata.jsonl`, as the library `datasets` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from polymodal.core.errors import DataError
from polymodal.data.table.columns import Columns, media_kind

#: The names of the file, and the column with the paths of the media below the folder.
FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"
T = TypeVar("T")


def metadata_file(folder: Path) -> Path | None:
    """The file with the rows of a folder of media; None if it has none.

    Raises:
        DataError: it has several.
    """
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise DataError(f"the folder has {names}: give the path of one of them", file=str(folder))
    return found[0] if found else None


def media_names(columns: Columns, file: Path) -> dict[str, str]:
    """The new names of the columns with paths: `file_name` becomes `image`, `audio` or `video`, and `x_file_name`
    becomes `x`.

    Raises:
        DataError: there is no such column, its first path is of no media, or two columns get the same name.
    """
    names: dict[str, str] = {}
    for name in columns:
        if name == FILE_NAME:
            names[name] = _kind(columns[name], file)
        elif name.endswith(f"_{FILE_NAME}"):
            names[name] = name.removesuffix(f"_{FILE_NAME}")
    if not names:
        problem = f"the file has no column {FILE_NAME!r} with the paths of the media below its folder"
        raise DataError(problem, file=str(file))
    for old, new in names.items():
        if new in columns:
            raise DataError(f"the column would be named {new!r}, as another one is; rename one", column=old)
    return names


def renamed(values: dict[str, T], names: dict[str, str]) -> dict[str, T]:
    """The values by the new names of the columns."""
    return {names.get(name, name): value for name, value in values.items()}


def _kind(cells: pa.ChunkedArray | list[str | None], file: Path) -> str:
    paths = cells.slice(0, 1000).to_pylist() if isinstance(cells, pa.ChunkedArray) else cells
    first = next((path for path in paths if path), None)
    kind = media_kind(str(first)) if first is not None else None
    if kind is None:
        raise DataError(f"{first!r} is no image, audio or video file", column=FILE_NAME, file=str(file))
    return kind
