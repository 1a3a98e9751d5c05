"""Several tables as one: the union of their columns, with the data set of each row."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from polymodal.core.errors import DataError, did_you_mean
from polymodal.data.objects import Root
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.cell_kinds import CellKind, cell_kind, is_of_kind
from polymodal.data.table.memory import check_no_splits, is_table
from polymodal.data.table.sample import ColumnSample
from polymodal.data.table.table import Table, open_table
from polymodal.recipe.data import LimitOptions

#: Longer cells are not checked as file paths.
_MAX_PATH_LENGTH = 4096


def open_data(source: Any, *, root: Root | None = None, cache: Path) -> Table:
    """Open one table, or several tables as one.

    source: as in `open_table`; or a list of tables (not of rows), or a dict of tables by the name of the data set.
        Without names, data sets are named after their files.
    root, cache: as in `open_table`, for every table

    Raises:
        DataError: as in `open_table`, for the first table that cannot be opened.
    """
    check_no_splits(source)
    if isinstance(source, Mapping) and source and all(_is_table(one) for one in source.values()):
        return ConcatTable({str(name): _open(one, str(name), root, cache) for name, one in source.items()})
    if isinstance(source, list | tuple) and source and all(_is_table(one, row=True) for one in source):
        if len(source) == 1:
            return _open(source[0], None, root, cache)
        return ConcatTable(dict(zip(_names(source), (_open(one, None, root, cache) for one in source), strict=True)))
    return source if isinstance(source, Table) else open_table(source, root=root, cache=cache)


class ConcatTable(Table):
    """Tables concatenated by rows, with the union of their columns.

    A column that a table lacks is null in the rows of this table: a missing input, or an unlabeled target. Media paths
    are relative to the root of each table. A cell error names the table and the row within it. Equal content is one
    item across all tables.

    tables: by the name of their data set, in order
    columns: additional columns, which are null unless one of the tables has them

    Each column has one cell type. Integer and float columns combine to float, and paths combine with bytes and images.
    Other combinations are an error only when the column is read, so that it can be ignored.

    Raises:
        DataError: there is no table.
    """

    data_set: np.ndarray

    def __init__(self, tables: Mapping[str, Table], *, columns: Mapping[str, pa.DataType | None] | None = None) -> None:
        if not tables:
            raise DataError("no table is given")
        self.tables = list(tables.values())
        self.data_sets = tuple(tables)
        self.name = " + ".join(one.name for one in self.tables)
        self.root = _common([one.root for one in self.tables])
        lengths = [len(one) for one in self.tables]
        self._first = np.cumsum([0, *lengths])
        self.data_set = np.repeat(np.arange(len(self.tables)), lengths)
        twice = {name for name, count in Counter(one.name for one in self.tables).items() if count > 1}
        self._labels = [one.name if one.name not in twice else f"{name} ({one.name})" for name, one in tables.items()]
        self._added = dict(columns or {})
        own = [column for one in self.tables for column in one.columns]
        self._names = list(dict.fromkeys([*own, *self._added]))
        self._kinds: dict[str, pa.DataType | None] = {}

    @property
    def columns(self) -> list[str]:
        return list(self._names)

    def __len__(self) -> int:
        return len(self.data_set)

    def with_columns_of(self, other: Table) -> ConcatTable:
        """These tables with every column of `other` added."""
        kinds = {column: other.column_type(column) for column in other.columns if column not in self._names}
        return ConcatTable(dict(zip(self.data_sets, self.tables, strict=True)), columns=kinds)

    def column_kinds(self) -> dict[str, CellKind]:
        """The kind of each column that has one type in all tables."""
        kinds = {}
        for column in self._names:
            with contextlib.suppress(DataError):  # a column of several types is an error when it is read
                kinds[column] = cell_kind(self.column_type(column))
        return kinds

    def read_with(self, kinds: Mapping[str, CellKind]) -> Table:
        tables = {name: one.read_with(kinds) for name, one in zip(self.data_sets, self.tables, strict=True)}
        return ConcatTable(tables, columns=self._added)

    def column_type(self, column: str) -> pa.DataType | None:
        """The common type of the column's cells in all tables; None if they are Python objects.

        Raises:
            DataError: there is no such column, or two tables have different types in it. The message names both.
        """
        if column not in self._names:
            raise DataError(f"there is no column {column!r}; {did_you_mean(column, self._names)}", file=self.name)
        if column not in self._kinds:
            self._kinds[column] = self._infer_column_type(column)
        return self._kinds[column]

    def values(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        rows = self.check_rows(rows)
        kind, sets = self.column_type(column), self.data_set[rows]
        order = np.argsort(sets, kind="stable")
        parts = [
            self._cells(number, column, rows[order][sets[order] == number] - self._first[number])
            for number in range(len(self.tables))
        ]
        back = np.argsort(order, kind="stable")
        if kind is None or any(isinstance(part, list) for part in parts):
            cells = [cell for part in parts for cell in (part if isinstance(part, list) else part.to_pylist())]
            return [cells[position] for position in back]
        return pa.chunked_array([pa.concat_arrays([chunk for part in parts for chunk in part.chunks]).take(back)])

    def sample(self, column: str, limit: int = 2000, seed: int = 0) -> ColumnSample:
        """Up to `limit` rows spread over the tables that have the column. Paths are rewritten to be relative to
        `root`, which contains the roots of all tables."""
        kind = self.column_type(column)
        having = [number for number, one in enumerate(self.tables) if column in one.columns]
        rows = np.flatnonzero(np.isin(self.data_set, having))
        edges = np.linspace(0, len(rows), min(limit, len(rows)) + 1).astype(np.int64)
        drawn = rows[np.random.default_rng(seed).integers(edges[:-1], edges[1:])] if len(rows) else rows
        values = self._with_common_root(column, drawn)
        cells = values if isinstance(values, list) else values.to_pylist()
        nulls, own = sum(cell is None for cell in cells), cell_kind(kind)
        present = [cell for cell in cells if cell is not None and is_of_kind(cell, own)]
        return ColumnSample(column, present, kind, len(rows), len(cells), nulls, self.root)

    def block(
        self,
        rows: np.ndarray,
        columns: list[str],
        *,
        errors: CellErrors,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> RowBlock:
        """Rows of several tables in one block. Row numbers, also those in cell errors, are those of the concatenated
        table."""
        rows = np.asarray(rows, dtype=np.int64)
        cells: dict[str, Any] = {column: self._with_common_root(column, rows) for column in columns}
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
        """`rows` in blocks of one table each. The row numbers of a block are those within its table."""
        rows = np.asarray(rows, dtype=np.int64)
        for segment in np.split(rows, np.flatnonzero(np.diff(self.data_set[rows])) + 1):
            if not len(segment):
                continue
            number = int(self.data_set[segment[0]])
            table, local = self.tables[number], segment - self._first[number]
            own = [column for column in columns if column in table.columns]
            for block in table.blocks(local, own, size, errors=errors, limits=limits, cache=cache):
                cells = {
                    column: self._as_common_type(number, column, block.columns.get(column), len(block))
                    for column in columns
                }
                yield replace(block, columns=cells, table=self._labels[number])

    def fingerprint(self) -> str:
        digest = xxhash.xxh3_128()
        for name, table in zip(self.data_sets, self.tables, strict=True):
            digest.update(f"{name}\0{table.fingerprint()}\0".encode())
        return digest.hexdigest()

    def _cells(self, number: int, column: str, local: np.ndarray) -> Any:
        """Cells of one table, in the common type of the column."""
        table = self.tables[number]
        return self._as_common_type(
            number, column, table.values(column, local) if column in table.columns else None, len(local)
        )

    def _as_common_type(self, number: int, column: str, cells: Any, rows: int) -> Any:
        """The cells of one table in the common type of the column: an Arrow array, or a list of objects. None as
        `cells` means that the table lacks the column."""
        kind = self.column_type(column)
        if cells is None:
            return [None] * rows if kind is None else pa.chunked_array([pa.nulls(rows, kind)])
        if isinstance(cells, list):
            return cells
        if kind is None:
            return cells.to_pylist()
        try:
            return cells.cast(kind)
        except pa.ArrowInvalid as error:
            if cell_kind(cells.type) == "number":  # a decimal number in a column read as whole numbers
                return cells.to_pylist()
            raise DataError(
                f"an integer is too large for the column type of the other tables ({error})",
                column=column,
                file=self._labels[number],
            ) from None

    def _with_common_root(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        """Cells in which paths of existing files are relative to the common root, not to the root of their table."""
        values, kind = self.values(column, rows), self.column_type(column)
        if kind is not None and kind != pa.string():
            return values
        cells = list(values) if isinstance(values, list) else values.to_pylist()
        for position, number in enumerate(self.data_set[rows]):
            cell, root = cells[position], self.tables[number].root
            if not isinstance(root, Path) or not isinstance(self.root, Path) or root == self.root:
                continue
            if isinstance(cell, str) and _names_file(root, cell):
                cells[position] = os.path.relpath(root.resolve() / cell, self.root)
        return cells if isinstance(values, list) else pa.chunked_array([pa.array(cells, kind)])

    def _infer_column_type(self, column: str) -> pa.DataType | None:
        found = [(shown, one.column_type(column)) for shown, one in self._with(column)]
        if not found:
            return self._added[column]
        (first, kind), *others = found
        for shown, other in others:
            common = _common_type(kind, other)
            if common is _CLASH:
                raise DataError(
                    f"{first} has {_type_noun(kind)} and {shown} has {_type_noun(other)}: use the same type in "
                    "both, rename one, or exclude the column with data.ignore_columns",
                    column=column,
                )
            kind = common
        return kind

    def _with(self, column: str) -> list[tuple[str, Table]]:
        return [(shown, one) for shown, one in zip(self._labels, self.tables, strict=True) if column in one.columns]


_CLASH = pa.field("clash", pa.null())


def _common_type(one: pa.DataType | None, other: pa.DataType | None) -> Any:
    """The type that fits cells of both types; None for Python objects; `_CLASH` if there is none."""
    if one == other:
        return one
    if one is None or other is None or {_type_noun(one), _type_noun(other)} == {"texts", "bytes"}:
        plain = [kind for kind in (one, other) if kind is not None]
        return None if all(_type_noun(kind) not in ("numbers", "booleans", "times") for kind in plain) else _CLASH
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = _common_type(one.value_type, other.value_type)
        return _CLASH if inner is _CLASH or inner is None else pa.list_(inner)
    if _type_noun(one) == _type_noun(other) == "numbers":
        return pa.int64() if pa.types.is_integer(one) and pa.types.is_integer(other) else pa.float64()
    return _CLASH


def _type_noun(kind: pa.DataType | None) -> str:
    """A plain name for cells of a type, used in messages."""
    types = pa.types
    if kind is None:
        return "images or arrays"
    if types.is_integer(kind) or types.is_floating(kind):
        return "numbers"
    if types.is_boolean(kind):
        return "booleans"
    if types.is_string(kind):
        return "texts"
    if types.is_binary(kind):
        return "bytes"
    if types.is_temporal(kind):
        return "times"
    if types.is_list(kind):
        return f"lists of {_type_noun(kind.value_type)}"
    return f"cells of type {kind}"


def _is_table(source: Any, *, row: bool = False) -> bool:
    return isinstance(source, Table) or is_table(source, row=row)


def _open(source: Any, name: str | None, root: Root | None, cache: Path) -> Table:
    if isinstance(source, Table):
        return source
    table = open_table(source, root=root, cache=cache)
    if name is not None and not isinstance(source, str | os.PathLike):
        table.name = name
    return table


def _names(sources: Sequence[Any]) -> list[str]:
    """A name for each data set: that of its file, preceded by its folder if two files have the same name."""
    paths = [Path(one) if isinstance(one, str | os.PathLike) else None for one in sources]
    stems = [path.stem if path is not None else f"table {position + 1}" for position, path in enumerate(paths)]
    long = [
        f"{path.resolve().parent.name}/{stem}" if path is not None and stems.count(stem) > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]
    return [name if long.count(name) == 1 else f"{name} {position + 1}" for position, name in enumerate(long)]


def _common(roots: Sequence[Root | None]) -> Root | None:
    """The folder that contains all roots; the root itself if there is only one; None if object stores hold some."""
    known = list(dict.fromkeys(root for root in roots if root is not None))
    if len(known) <= 1:
        return known[0] if known else None
    paths = [root.resolve() for root in known if isinstance(root, Path)]
    return Path(os.path.commonpath(paths)) if len(paths) == len(known) else None


def _names_file(root: Path, cell: str) -> bool:
    return 0 < len(cell) < _MAX_PATH_LENGTH and "\0" not in cell and os.path.isfile(root / cell)
