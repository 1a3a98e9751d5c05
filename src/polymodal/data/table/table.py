"""Opening of tables from any source. Rows are read on access."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError
from polymodal.data.objects import ObjectFile, ObjectPath, Root, as_root, object_file
from polymodal.data.table import columns as in_memory
from polymodal.data.table.arrow_cache import ColumnForms, map_file, split_forms
from polymodal.data.table.base import Table as Table
from polymodal.data.table.base import non_null as non_null
from polymodal.data.table.column_table import ColumnTable as ColumnTable
from polymodal.data.table.compressed import ZIP, format_of
from polymodal.data.table.given_splits import check_one_table
from polymodal.data.table.locations import check_location, no_such_file, unknown_format
from polymodal.data.table.memory import media_folder, read_source
from polymodal.data.table.metadata_folder import media_names, metadata_file, renamed
from polymodal.data.table.nested import flat_columns
from polymodal.data.table.object_copy import local_copy
from polymodal.data.table.readers import SUFFIXES
from polymodal.data.table.row_groups import RowGroupTable
from polymodal.data.table.shards import is_pattern, read_shards, shards_of
from polymodal.data.table.source_part import DatabaseTable, TableFile
from polymodal.data.table.sql_rows import read_database
from polymodal.data.table.tar import TAR, open_tars

#: Suffixes of addresses that are tables.
_ADDRESSES = frozenset({*SUFFIXES, TAR, ZIP})


def open_table(source: Any, *, root: Root | None = None, cache: Path) -> Table:
    """Open `source` as a table.

    source: a path to a CSV, TSV, JSON, JSON lines, Parquet, Arrow, Excel, SQLite or DuckDB file (also compressed, as
        `.csv.gz`; a sheet or table is named after `#`, as in `shop.sqlite#products`), to a folder of Parquet files (or
        a pattern such as `part-*.parquet`), to tar files of samples (`shard-*.tar`), or to a folder of images, audio or
        videos (`class/file.png`, with the columns `image`, `audio` or `video`, and `label`); the URL of a database
        with a table or query (`postgresql://host/shop#SELECT ...`); the address of a file, a folder or a pattern in an
        object store (`s3://`, `gs://`, `az://`, `file://`), whose Parquet files are read where they are; a pandas or
        polars frame; a pyarrow table; a `datasets.Dataset`; a `torch.utils.data.Dataset` of dicts; any object that
        exports an Arrow stream; a dict of columns; a list of dicts
    root: base folder of media paths in cells. Default: the folder of the file. In-memory sources have no default root,
        and paths in their cells are refused without one.
    cache: folder where CSV, JSON lines, Parquet and compressed Arrow files are converted to a memory-mapped form, once
        per content

    Raises:
        DataError: there is no such file, it cannot be read, it has no rows, or two columns have the same name.

    Example:
        >>> from pathlib import Path
        >>> table = open_table({"text": ["good", "bad"], "stars": [5, 1]}, cache=Path("cache"))
        >>> table.columns, len(table)
        (['text', 'stars'], 2)
    """
    if isinstance(source, str | os.PathLike | ObjectPath):
        location = check_location(source)
        if isinstance(location, ObjectPath):
            return _open_address(location, root, Path(cache))
        if isinstance(location, DatabaseTable):
            columns = flat_columns(in_memory.from_arrow(read_database(location, Path(cache))))
            return ColumnTable(columns, name=location.part or location.shown, root=root)
        return _open_file(location, root, Path(cache))
    columns = flat_columns(read_source(source))
    return ColumnTable(columns, name="table", root=root or media_folder(source, columns))


def _open_file(file: TableFile, root: Root | None, cache: Path) -> Table:
    path = file.path
    if path.is_dir() or (not path.exists() and is_pattern(path)):
        check_one_table(path)
        if path.is_dir() and (rows := metadata_file(path)) is not None:
            return _open_metadata(TableFile(rows, file.part), root, cache)
        files = shards_of(path)
        if len(files) > 1:
            folder = path if path.is_dir() else path.parent
            if files[0].suffix.lower() == TAR:
                return _open_tars([object_file(file) for file in files], path.name, folder, root, cache)
            joined = read_shards(files, path.name, lambda one: map_file(TableFile(one), cache))
            columns = flat_columns(in_memory.from_arrow(joined))
            return _placed(ColumnTable(columns, name=path.name, root=root or folder), folder)
        if files:
            return _open_file(TableFile(files[0], file.part), root, cache)
    if not path.exists():
        raise no_such_file(path)
    if path.is_dir():
        return _placed(ColumnTable(in_memory.from_media_folder(path), name=path.name, root=root or path), path)
    if path.suffix.lower() == TAR:
        return _open_tars([object_file(path)], path.name, path.parent, root, cache)
    if format_of(path) not in (*SUFFIXES, ZIP):
        raise unknown_format(path, SUFFIXES)
    columns, forms = split_forms(map_file(file, cache))
    return _placed(
        ColumnTable(flat_columns(columns), name=path.name, root=root or path.parent, forms=forms), path.parent
    )


def _open_metadata(file: TableFile, root: Root | None, cache: Path) -> Table:
    """The rows of a folder of media, in which the columns with paths are named by the kind of media."""
    columns, forms = split_forms(map_file(file, cache))
    names = media_names(columns, file.path)
    columns = flat_columns(renamed(columns, names))
    forms = ColumnForms(renamed(forms.kinds, names), renamed(forms.texts, names))
    folder = file.path.parent
    return _placed(ColumnTable(columns, name=folder.name, root=root or folder, forms=forms), folder)


def _open_address(address: ObjectPath, root: Root | None, cache: Path) -> Table:
    """The table at an address: Parquet and tar files where they are, another file by a copy in the cache."""
    listed = address.files()
    files = [file for file in listed if format_of(Path(file.path.name)) in _ADDRESSES]
    if not files:
        raise unknown_format(Path(str(listed[0].path)), _ADDRESSES)
    folder: Root = as_root(files[0].path.parent) or address
    suffix = format_of(Path(files[0].path.name))
    if any(format_of(Path(file.path.name)) != suffix for file in files):
        formats = ", ".join(sorted({format_of(Path(file.path.name)) for file in files}))
        raise DataError(f"the files have several formats ({formats}): give one of them", file=str(address))
    if suffix == ".parquet":
        return _placed(RowGroupTable(files, name=address.name, root=root or folder, cache=cache), folder)
    if suffix == TAR:
        return _open_tars(files, address.name, folder, root, cache)
    if len(files) > 1:
        raise DataError(
            f"only Parquet and tar files are read together from an address, and these are {suffix} files: give one of "
            "them, or write them as Parquet",
            file=str(address),
        )
    table = _open_file(TableFile(local_copy(files[0], cache)), root or folder, cache)
    return _placed(table, folder)


def _open_tars(files: list[ObjectFile], name: str, folder: Root, root: Root | None, cache: Path) -> Table:
    return _placed(open_tars(files, name=name, root=root or folder, cache=cache), folder)


def _placed(table: Table, folder: Root) -> Table:
    """The table, whose files are in `folder`."""
    table.folder = folder
    return table
