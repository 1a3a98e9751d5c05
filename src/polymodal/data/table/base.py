"""`Table`: rows of named columns, which are read on access."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from PIL import Image

from polymodal.data.objects import Root
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.cell_kinds import CellKind, cell_kind, is_of_kind
from polymodal.data.table.sample import ColumnSample
from polymodal.recipe.data import LimitOptions

# Target size of a block or sample in bytes, and its minimum number of rows.
_BLOCK_BYTES = 64 << 20
#: Rows of a column that are hashed at once: of numbers, and of cells that may be large.
_HASHED_ROWS, _HASHED_MEDIA_ROWS = 4096, 128
_MIN_ROWS = 64


class Table(ABC):
    """A table with named columns.

    name: shown in error reports
    root: base folder of relative media paths: on this machine, or in an object store
    folder: folder of the file, which is the default of `root`; None for tables in memory
    data_sets: names of the data sets, if the table consists of several (`concat.ConcatTable`)
    data_set: `[rows]`, the number of the data set of each row, if the table consists of several

    Example:
        >>> from pathlib import Path
        >>> from polymodal.data.table.table import open_table
        >>> table = open_table([{"text": "good", "stars": 5}, {"text": "bad", "stars": 1}], cache=Path("cache"))
        >>> table.column_type("stars")
        DataType(int64)
        >>> table.values("text", np.array([1, 0])).to_pylist()
        ['bad', 'good']
    """

    name: str
    root: Root | None
    folder: Root | None = None
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

    def source_key(self) -> str:
        """A hash (32 hex digits) that changes with the rows. Files in an object store are not read for it."""
        return self.fingerprint()

    def shard_bounds(self, rows: int) -> list[int]:
        """The first row of each shard of at most `rows` rows, then the number of rows. Where rows are stored in row
        groups, a shard begins with one if it can."""
        return [*range(0, len(self), rows), len(self)]

    def column_kinds(self) -> dict[str, CellKind]:
        """The kind of each column that has one."""
        return {column: cell_kind(self.column_type(column)) for column in self.columns}

    @abstractmethod
    def read_with(self, kinds: Mapping[str, CellKind]) -> Table:
        """This table with its columns read as `kinds`, those of the training table. Each cell is read by itself, so
        its value is the same in every file format and beside every other row. Other columns do not change.

        Example:
            >>> from pathlib import Path
            >>> from polymodal.data.table.table import open_table
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


class StoredTable(Table):
    """A table that is stored in one place. A subclass reads the cells; samples, blocks and the fingerprint follow."""

    _length: int
    #: The kinds of columns that are stored in another form.
    _kinds: Mapping[str, CellKind]

    def __len__(self) -> int:
        return self._length

    def sample(self, column: str, limit: int = 2000, seed: int = 0) -> ColumnSample:
        limit = min(limit, max(_MIN_ROWS, int(_BLOCK_BYTES / max(1.0, self._row_bytes([column])))))
        values = self.values(column, self._sampled_rows(column, limit, seed))
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
        return RowBlock(self._cells(columns, rows), rows, self.root, self.name, errors, limits, cache)

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
        for column in self.columns:
            type = self.column_type(column)
            digest.update(f"{column}\0{type}\0".encode())
            size = _HASHED_ROWS if type is not None and pa.types.is_primitive(type) else _HASHED_MEDIA_ROWS
            for start in range(0, self._length, size):
                values = self.values(column, np.arange(start, min(start + size, self._length)))
                if isinstance(values, list):
                    for cell in values:
                        digest.update(_object_bytes(cell))
                else:
                    digest.update(pa.record_batch([values.chunk(0)], ["x"]).serialize())
        return digest.hexdigest()

    def _cells(self, columns: list[str], rows: np.ndarray) -> dict[str, pa.ChunkedArray | Sequence[Any]]:
        """The cells of several columns in `rows`."""
        return {column: self.values(column, rows) for column in columns}

    def _sampled_rows(self, column: str, limit: int, seed: int) -> np.ndarray:
        """The rows of a sample."""
        return spread_rows(self._length, limit, seed)

    @abstractmethod
    def _row_bytes(self, columns: list[str]) -> float:
        """Bytes needed to read one row, on average."""


def spread_rows(count: int, limit: int, seed: int) -> np.ndarray:
    """Up to `limit` of `count` row numbers, one drawn from each of as many segments."""
    edges = np.linspace(0, count, min(limit, count) + 1).astype(np.int64)
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:])


def restore_order(array: pa.Array, order: np.ndarray) -> pa.Array:
    """Cells in their original order, where `array[i]` is the cell at position `order[i]`."""
    if len(order) == 0 or bool((order[1:] > order[:-1]).all()):
        return array
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return array.take(pa.array(inverse))


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
