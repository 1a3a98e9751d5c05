"""Tables in several files of one schema: a folder of Parquet, Arrow or tar files, or a pattern such as
`part-*.parquet`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from polymodal.core.errors import DataError
from polymodal.core.formatting import count_noun
from polymodal.data.table.compressed import COMPRESSIONS, format_of

#: Formats with a schema, so that the parts of a table agree on the type of every column.
TYPED = (".parquet", ".arrow", ".feather", ".ipc", ".tar")
UNTYPED = tuple(
    f"{one}{ending}" for one in (".csv", ".tsv", ".jsonl", ".ndjson", ".json") for ending in ("", *COMPRESSIONS)
)


def is_pattern(path: Path) -> bool:
    """Whether a path that does not exist has wildcards in its last part."""
    return any(mark in path.name for mark in "*?[") and path.parent.is_dir()


def shards_of(path: Path) -> list[Path]:
    """The files of a folder or of a pattern, in the order of their names. A folder with folders in it has none.

    Raises:
        DataError: they are of several formats, or several files of a format without types.
    """
    if path.is_dir():
        visible = [file for file in path.iterdir() if not file.name.startswith((".", "_"))]
        tables = [file for file in visible if file.is_file() and _format(file) in (*TYPED, *UNTYPED)]
        if any(file.is_dir() for file in visible):
            return []
    else:
        tables = [file for file in path.parent.glob(path.name) if file.is_file()]
    formats = sorted({_format(file) for file in tables})
    if len(formats) > 1:
        raise DataError(f"the files have several formats ({', '.join(formats)}): give one of them", file=str(path))
    if len(tables) > 1 and formats[0] not in TYPED:
        raise DataError(
            f"{count_noun(len(tables), 'file')} of the format {formats[0]}, which have no types that they share: give "
            "one of them, join them into one file, or give a list of paths, of which each is a data set of its own",
            file=str(path),
        )
    return sorted(tables, key=lambda file: file.name)


def read_shards(files: list[Path], name: str, read: Callable[[Path], pa.Table]) -> pa.Table:
    """The rows of all files, one file after the other.

    Raises:
        DataError: a file has other columns or types than the first one. The message names both.
    """
    tables = [read(file) for file in files]
    first = tables[0].schema
    for file, table in zip(files[1:], tables[1:], strict=True):
        if table.schema.names != first.names:
            different = ", ".join(sorted(set(table.schema.names) ^ set(first.names))) or "another order"
            problem = f"{file.name!r} has other columns than {files[0].name!r} ({different}); they must be the same"
            raise DataError(problem, file=name)
        for one, other in zip(first, table.schema, strict=True):
            if one.type != other.type:
                problem = f"is {one.type} in {files[0].name!r} and {other.type} in {file.name!r}; write both alike"
                raise DataError(problem, column=one.name, file=name)
    return pa.concat_tables([table.replace_schema_metadata() for table in tables])


def _format(file: Path) -> str:
    suffix = file.suffix.lower()
    return format_of(file) + (suffix if suffix in COMPRESSIONS else "")
