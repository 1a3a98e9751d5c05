"""A table of any source, opened lazily: rows are read when they are asked for."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from PIL import Image

from polymodal.core.errors import DataError, nearest
from polymodal.data.table import columns as in_memory
from polymodal.data.table.arrow_cache import SUFFIXES, map_file
from polymodal.data.table.block import Block
from polymodal.data.table.cell_errors import Faults
from polymodal.data.table.columns import Columns, plain, plain_type
from polymodal.data.table.sample import ColumnSample
from polymodal.recipe.data import LimitOptions

# A block is cut to about this many bytes, as long as it keeps this many rows.
_BLOCK_BYTES = 64 << 20
_FEWEST_ROWS = 64


def open_table(source: Any, *, root: Path | None = None, cache: Path) -> Table:
    """Open `source` as a table.

    source: a path to a CSV, TSV, JSON lines, Parquet or Arrow file, or to a folder of images, sounds or clips
        (`class/file.png`, which has the columns `image`, `audio` or `video`, and `label`); a pandas or polars
        frame; a pyarrow table; a dict of columns; a list of dicts
    root: the folder that media paths in cells start from; by default that of the file. Sources in memory have
        none unless it is given, and paths in their cells are refused without it.
    cache: where CSV, JSON lines, Parquet and compressed Arrow files are converted to a memory-mapped form,
        once per content

    Raises:
        DataError: there is no such file, it cannot be read, it has no rows, or two of its columns share a
            name.
    """
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source), root, cache)
    columns = _in_memory(source)
    if columns is None:
        raise DataError(
            "a table is a file path, a media folder, a pandas or polars frame, a pyarrow table, a dict of "
            f"columns or a list of dicts, not {type(source).__name__}"
        )
    return ColumnTable(columns, name="table", root=root)


def _open_path(path: Path, root: Path | None, cache: Path) -> Table:
    if not path.exists():
        siblings = [entry.name for entry in os.scandir(path.parent)] if path.parent.is_dir() else []
        hint = nearest(path.name, siblings[:1000]) if path.parent.is_dir() else "its folder is not there either"
        raise DataError(f"there is no such file; {hint}", file=str(path))
    if path.is_dir():
        return ColumnTable(in_memory.from_media_folder(path), name=path.name, root=root or path)
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(sorted(SUFFIXES))
        raise DataError(f"the suffix {path.suffix!r} is not that of a table ({known})", file=str(path))
    return ColumnTable(in_memory.from_arrow(map_file(path, Path(cache))), name=path.name, root=root or path.parent)


def _in_memory(source: Any) -> Columns | None:
    package = type(source).__module__.partition(".")[0]
    if isinstance(source, pa.Table):
        return in_memory.from_arrow(source)
    if isinstance(source, Mapping):
        return in_memory.from_dict(source)
    if package == "pandas" and hasattr(source, "iloc") and hasattr(source, "columns"):
        return in_memory.from_pandas(source)
    if package == "polars" and hasattr(source, "to_arrow") and hasattr(source, "columns"):
        return in_memory.from_arrow(source.to_arrow())
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return in_memory.from_rows(source)
    return None


class Table(ABC):
    """A table with named columns, whatever it is made of; `name` stands in fault reports, `root` is where media paths
    start.

    data_sets, data_set: of a table that is made of several (`concat.Joined`), their names, and `[rows]` the number of
        the data set that each row is of
    """

    name: str
    root: Path | None
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
    def kind(self, column: str) -> pa.DataType | None:
        """The type of the cells (text is always `string`, lists `list`); None where they are Python objects.

        Raises:
            DataError: there is no such column; the message gives the nearest.
        """

    @abstractmethod
    def values(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        """The cells of `column` in `rows [n]`, in that order."""

    @abstractmethod
    def sample(self, column: str, limit: int = 2000, seed: int = 0) -> ColumnSample:
        """Up to `limit` rows spread evenly over the table, one drawn from each stretch.

        Raises:
            DataError: there is no such column; the message gives the nearest.
        """

    @abstractmethod
    def block(
        self,
        rows: np.ndarray,
        columns: list[str],
        *,
        faults: Faults,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> Block:
        """The rows `rows [n]` of `columns`, ready for preparation; `cache` is the folder of decoded media.

        Raises:
            DataError: there is no such column; the message gives the nearest.
        """

    @abstractmethod
    def blocks(
        self,
        rows: np.ndarray,
        columns: list[str],
        size: int = 4096,
        *,
        faults: Faults,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> Iterator[Block]:
        """`rows` in blocks of up to `size`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash (32 hex digits) of the columns' names, types and cells, read once in full; the same table
        gives the same one from every source. Media files that cells name are not read."""

    def checked(self, rows: np.ndarray) -> np.ndarray:
        """`rows` as int64.

        Raises:
            IndexError: one of them is not in the table.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a table of {len(self)}")
        return rows


class ColumnTable(Table):
    """A table whose columns lie in memory or in a mapped file.

    Raises:
        DataError: it has no rows.
    """

    def __init__(self, columns: Columns, *, name: str, root: Path | None) -> None:
        self._columns, self.name = columns, name
        self.root = Path(root) if root is not None else None
        self._length = len(next(iter(columns.values()), []))
        if self._length == 0:
            raise DataError("the table has no rows", file=name)
        # first row of every chunk, and the number of rows
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

    def kind(self, column: str) -> pa.DataType | None:
        values = self._find(column)
        return plain_type(values.type) if isinstance(values, pa.ChunkedArray) else None

    def values(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        rows = self.checked(rows)
        values = self._find(column)
        if isinstance(values, list):
            return [values[row] for row in rows]
        return pa.chunked_array([self._take(column, values, rows)])

    def _take(self, column: str, values: pa.ChunkedArray, rows: np.ndarray) -> pa.Array:
        """Arrow's own take joins all chunks in memory first; this one takes from each chunk that is
        touched."""
        if len(rows) == 0:
            return pa.array([], type=plain_type(values.type))
        starts = self._starts[column]
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        chunk = np.searchsorted(starts, ascending, side="right") - 1
        touched, first = np.unique(chunk, return_index=True)
        parts = [
            plain(values.chunk(number).take(pa.array(places - starts[number])))
            for number, places in zip(touched, np.split(ascending, first[1:]), strict=True)
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
        present = [cell for cell in cells if cell is not None]
        nulls = len(cells) - len(present)
        return ColumnSample(column, present, self.kind(column), self._length, len(cells), nulls, self.root)

    def block(
        self,
        rows: np.ndarray,
        columns: list[str],
        *,
        faults: Faults,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> Block:
        rows = np.asarray(rows, dtype=np.int64)
        cells = {column: self.values(column, rows) for column in columns}
        return Block(cells, rows, self.root, self.name, faults, limits, cache)

    def blocks(
        self,
        rows: np.ndarray,
        columns: list[str],
        size: int = 4096,
        *,
        faults: Faults,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> Iterator[Block]:
        """`rows` in blocks of up to `size`; of fewer where rows are large (images as bytes), to hold memory
        down."""
        size = min(size, max(_FEWEST_ROWS, int(_BLOCK_BYTES / max(1.0, self._row_bytes(columns)))))
        for start in range(0, len(rows), size):
            yield self.block(rows[start : start + size], columns, faults=faults, limits=limits, cache=cache)

    def fingerprint(self) -> str:
        digest = xxhash.xxh3_128()
        for column in self._columns:
            digest.update(f"{column}\0{self.kind(column)}\0".encode())
            for start in range(0, self._length, 4096):
                values = self.values(column, np.arange(start, min(start + 4096, self._length)))
                if isinstance(values, list):
                    for cell in values:
                        digest.update(_object_bytes(cell))
                else:
                    digest.update(pa.record_batch([values.chunk(0)], ["x"]).serialize())
        return digest.hexdigest()

    def _row_bytes(self, columns: list[str]) -> float:
        """Bytes that taking one row copies, on average."""
        found = [self._find(column) for column in columns]
        return sum(one.nbytes for one in found if isinstance(one, pa.ChunkedArray)) / self._length

    def _find(self, column: str) -> pa.ChunkedArray | list[Any]:
        if column not in self._columns:
            hint = nearest(column, self._columns)
            raise DataError(f"there is no column {column!r}; {hint}", file=self.name)
        return self._columns[column]


def _object_bytes(cell: Any) -> bytes:
    if isinstance(cell, np.ndarray):
        return f"{cell.dtype} {cell.shape}".encode() + np.ascontiguousarray(cell).tobytes()
    if isinstance(cell, Image.Image):
        return f"{cell.mode} {cell.size}".encode() + cell.tobytes()
    return repr(cell).encode()


def filled(table: Table, column: str, rows: np.ndarray) -> np.ndarray:
    """Whether each of `rows [n]` has a value in `column`, usable or not: `[n]` bool."""
    cells = table.values(column, rows)
    if isinstance(cells, pa.ChunkedArray):
        return np.asarray(cells.is_valid())
    return np.array([cell is not None for cell in cells], dtype=bool)
