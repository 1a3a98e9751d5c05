"""Tables from any source, opened lazily: rows are read on access."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from PIL import Image

from polymodal.core.errors import DataError, did_you_mean
from polymodal.data.table import columns as in_memory
from polymodal.data.table.arrow_cache import SUFFIXES, ColumnForms, map_file, split_forms
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.cell_kinds import CellKind, Cells, cell_kind, is_of_kind, kind_type, read_as
from polymodal.data.table.columns import Columns, plain_type, to_plain_type
from polymodal.data.table.gzipped import format_of
from polymodal.data.table.locations import check_location, no_such_file, unknown_format
from polymodal.data.table.memory import read_source
from polymodal.data.table.sample import ColumnSample
from polymodal.data.table.shards import is_pattern, read_shards, shards_of
from polymodal.recipe.data import LimitOptions

# Target size of a block in bytes, and the minimum number of rows of a block.
_BLOCK_BYTES = 64 << 20
_MIN_ROWS = 64


def open_table(source: Any, *, root: Path | None = None, cache: Path) -> Table:
    """Open `source` as a table.

    source: a path to a CSV, TSV, JSON, JSON lines, Parquet or Arrow file (also compressed, as `.csv.gz`), to a folder
        of Parquet files (or a pattern such as `part-*.parquet`), or to a folder of images, audio or videos
        (`class/file.png`, with the columns `image`, `audio` or `video`, and `label`); a pandas or polars frame; a
        pyarrow table; any object that exports an Arrow stream; a dict of columns; a list of dicts
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
    if isinstance(source, str | os.PathLike):
        return _open_path(check_location(source), root, cache)
    return ColumnTable(read_source(source), name="table", root=root)


def _open_path(path: Path, root: Path | None, cache: Path) -> Table:
    if path.is_dir() or (not path.exists() and is_pattern(path)):
        files = shards_of(path)
        if len(files) > 1:
            joined = read_shards(files, path.name, lambda file: map_file(file, Path(cache)))
            folder = path if path.is_dir() else path.parent
            table = ColumnTable(in_memory.from_arrow(joined), name=path.name, root=root or folder)
            table.folder = folder
            return table
        if files:
            return _open_path(files[0], root, cache)
    if not path.exists():
        raise no_such_file(path)
    if path.is_dir():
        table = ColumnTable(in_memory.from_media_folder(path), name=path.name, root=root or path)
        table.folder = path
        return table
    if format_of(path) not in SUFFIXES:
        raise unknown_format(path, SUFFIXES)
    columns, forms = split_forms(map_file(path, Path(cache)))
    table = ColumnTable(columns, name=path.name, root=root or path.parent, forms=forms)
    table.folder = path.parent
    return table


class Table(ABC):
    """A table with named columns.

    name: shown in error reports
    root: base folder of relative media paths
    folder: folder of the file, which is the default of `root`; None for tables in memory
    data_sets: names of the data sets, if the table consists of several (`concat.ConcatTable`)
    data_set: `[rows]`, the number of the data set of each row, if the table consists of several

    Example:
        >>> from pathlib import Path
        >>> table = open_table([{"text": "good", "stars": 5}, {"text": "bad", "stars": 1}], cache=Path("cache"))
        >>> table.column_type("stars")
        DataType(int64)
        >>> table.values("text", np.array([1, 0])).to_pylist()
        ['bad', 'good']
    """

    name: str
    root: Path | None
    folder: Path | None = None
    data_sets: tuple[str, ...] = ()
    data_set: np.ndarray | None = None

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """The names of the columns, in order."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    @abstractmethod
    def column_type(self, column: str) -> pa.DataType | None:
        """The Arrow type of the cells (text is always `string`, lists `list`); None if cells are Python objects.

        Raises:
            DataError: there is no such column. The message gives the nearest name.
        """

    @abstractmethod
    def values(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        """The cells of `column` in `rows [n]`, in this order."""

    @abstractmethod
    def sample(self, column: str, limit: int = 2000, seed: int = 0) -> ColumnSample:
        """Up to `limit` rows spread evenly over the table, one drawn from each segment.

        Raises:
            DataError: there is no such column. The message gives the nearest name.
        """

    @abstractmethod
    def block(
        self,
        rows: np.ndarray,
        columns: list[str],
        *,
        errors: CellErrors,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> RowBlock:
        """The rows `rows [n]` of `columns` for preparation; `cache` is the folder of decoded media.

        Raises:
            DataError: there is no such column. The message gives the nearest name.
        """

    @abstractmethod
    def blocks(
        self,
        rows: np.ndarray,
        columns: list[str],
        size: int = 4096,
        *,
        errors: CellErrors,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> Iterator[RowBlock]:
        """`rows` in blocks of up to `size` rows."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash (32 hex digits) of column names, types and cells. The same table has the same fingerprint whatever
        its source. Media files that cells name are not read."""

    def column_kinds(self) -> dict[str, CellKind]:
        """The kind of each column that has one."""
        return {column: cell_kind(self.column_type(column)) for column in self.columns}

    @abstractmethod
    def read_with(self, kinds: Mapping[str, CellKind]) -> Table:
        """This table with its columns read as `kinds`, those of the training table. Each cell is read by itself, so
        its value is the same in every file format and beside every other row. Other columns do not change.

        Example:
            >>> from pathlib import Path
            >>> table = open_table({"code": [1.0, 2.0], "x": ["3", "?"]}, cache=Path("cache"))
            >>> read = table.read_with({"code": "text", "x": "number"})
            >>> read.values("code", np.arange(2)).to_pylist(), read.values("x", np.arange(2))
            (['1', '2'], [3, '?'])
        """

    def check_rows(self, rows: np.ndarray) -> np.ndarray:
        """`rows` as int64.

        Raises:
            IndexError: a row number is out of range.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} are out of range for a table of {len(self)} rows")
        return rows


class ColumnTable(Table):
    """A table whose columns are in memory or in a mapped file.

    forms: the kinds of columns that are stored as texts, and the texts of columns that are stored as values

    Raises:
        DataError: it has no rows.
    """

    def __init__(self, columns: Columns, *, name: str, root: Path | None, forms: ColumnForms | None = None) -> None:
        self._columns, self.name = columns, name
        self._kinds, self._texts = (forms or ColumnForms()).kinds, (forms or ColumnForms()).texts
        self.root = Path(root) if root is not None else None
        self._length = len(next(iter(columns.values()), []))
        if self._length == 0:
            raise DataError("the table has no rows", file=name)
        # first row of every chunk, then the number of rows
        self._starts = {
            column: np.cumsum([0, *(len(chunk) for chunk in values.chunks)])
            for column, values in columns.items()
            if isinstance(values, pa.ChunkedArray)
        }

    @property
    def columns(self) -> list[str]:
        return list(self._columns)

    def __len__(self) -> int:
        return self._length

    def column_type(self, column: str) -> pa.DataType | None:
        values = self._find(column)
        own = plain_type(values.type) if isinstance(values, pa.ChunkedArray) else None
        return kind_type(self._kinds[column]) or own if column in self._kinds else own

    def read_with(self, kinds: Mapping[str, CellKind]) -> Table:
        changed = {
            column: kind
            for column, kind in kinds.items()
            if column in self._columns and kind != "other" and kind != cell_kind(self.column_type(column))
        }
        if not changed:
            return self
        columns = {**self._columns, **{column: self._texts[column] for column in changed if column in self._texts}}
        texts = {column: values for column, values in self._texts.items() if column not in changed}
        forms = ColumnForms({**self._kinds, **changed}, texts)
        table = ColumnTable(columns, name=self.name, root=self.root, forms=forms)
        table.folder = self.folder
        return table

    def values(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        rows = self.check_rows(rows)
        values = self._find(column)
        if isinstance(values, list):
            taken: Cells = [values[row] for row in rows]
        else:
            taken = pa.chunked_array([self._take(column, values, rows)])
        if column in self._kinds:
            taken = read_as(taken, self._kinds[column])
        return taken if isinstance(taken, pa.ChunkedArray) else list(taken)

    def _take(self, column: str, values: pa.ChunkedArray, rows: np.ndarray) -> pa.Array:
        """Take rows from each chunk that holds some of them. Arrow's own `take` concatenates all chunks in memory
        first."""
        if len(rows) == 0:
            return pa.array([], type=plain_type(values.type))
        starts = self._starts[column]
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        chunk = np.searchsorted(starts, ascending, side="right") - 1
        touched, first = np.unique(chunk, return_index=True)
        parts = [
            to_plain_type(values.chunk(number).take(pa.array(chunk_rows - starts[number])))
            for number, chunk_rows in zip(touched, np.split(ascending, first[1:]), strict=True)
        ]
        joined = pa.concat_arrays(parts)
        if np.array_equal(ascending, rows):
            return joined
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        return joined.take(pa.array(inverse))

    def sample(self, column: str, limit: int = 2000, seed: int = 0) -> ColumnSample:
        edges = np.linspace(0, self._length, min(limit, self._length) + 1).astype(np.int64)
        rows = np.random.default_rng(seed).integers(edges[:-1], edges[1:])
        values = self.values(column, rows)
        cells = values.to_pylist() if isinstance(values, pa.ChunkedArray) else values
        nulls = sum(cell is None for cell in cells)
        kind = self._kinds.get(column, "other")
        present = [cell for cell in cells if cell is not None and is_of_kind(cell, kind)]
        return ColumnSample(column, present, self.column_type(column), self._length, len(cells), nulls, self.root)

    def block(
        self,
        rows: np.ndarray,
        columns: list[str],
        *,
        errors: CellErrors,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> RowBlock:
        rows = np.asarray(rows, dtype=np.int64)
        cells = {column: self.values(column, rows) for column in columns}
        return RowBlock(cells, rows, self.root, self.name, errors, limits, cache)

    def blocks(
        self,
        rows: np.ndarray,
        columns: list[str],
        size: int = 4096,
        *,
        errors: CellErrors,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> Iterator[RowBlock]:
        """`rows` in blocks of up to `size` rows, or fewer if rows are large (images as bytes), which bounds memory."""
        size = min(size, max(_MIN_ROWS, int(_BLOCK_BYTES / max(1.0, self._row_bytes(columns)))))
        for start in range(0, len(rows), size):
            yield self.block(rows[start : start + size], columns, errors=errors, limits=limits, cache=cache)

    def fingerprint(self) -> str:
        digest = xxhash.xxh3_128()
        for column in self._columns:
            digest.update(f"{column}\0{self.column_type(column)}\0".encode())
            for start in range(0, self._length, 4096):
                values = self.values(column, np.arange(start, min(start + 4096, self._length)))
                if isinstance(values, list):
                    for cell in values:
                        digest.update(_object_bytes(cell))
                else:
                    digest.update(pa.record_batch([values.chunk(0)], ["x"]).serialize())
        return digest.hexdigest()

    def _row_bytes(self, columns: list[str]) -> float:
        """Bytes copied to take one row, on average."""
        found = [self._find(column) for column in columns]
        return sum(one.nbytes for one in found if isinstance(one, pa.ChunkedArray)) / self._length

    def _find(self, column: str) -> pa.ChunkedArray | list[Any]:
        if column not in self._columns:
            hint = did_you_mean(column, self._columns)
            raise DataError(f"there is no column {column!r}; {hint}", file=self.name)
        return self._columns[column]


def _object_bytes(cell: Any) -> bytes:
    if isinstance(cell, np.ndarray):
        return f"{cell.dtype} {cell.shape}".encode() + np.ascontiguousarray(cell).tobytes()
    if isinstance(cell, Image.Image):
        return f"{cell.mode} {cell.size}".encode() + cell.tobytes()
    return repr(cell).encode()


def non_null(table: Table, column: str, rows: np.ndarray) -> np.ndarray:
    """Whether each of `rows [n]` has a value in `column`, valid or not: `[n]` bool."""
    cells = table.values(column, rows)
    if isinstance(cells, pa.ChunkedArray):
        return np.asarray(cells.is_valid())
    return np.array([cell is not None for cell in cells], dtype=bool)
