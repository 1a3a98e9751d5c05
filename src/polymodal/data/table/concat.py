"""Several tables as one: the union of their columns, and rows that know which data set they are of."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from polymodal.core.errors import DataError, nearest
from polymodal.data.table.block import Block
from polymodal.data.table.cell_errors import Faults
from polymodal.data.table.sample import ColumnSample
from polymodal.data.table.table import Table, open_table
from polymodal.recipe.data import LimitOptions

#: Cells longer than this name no file.
_LONGEST_PATH = 4096


def open_data(source: Any, *, root: Path | None = None, cache: Path) -> Table:
    """Open one table, or several as one.

    source: as `open_table` takes it; or a list of tables (not of rows), or a dict of tables by the name of the data
        set. Without names, data sets are named after their files.
    root, cache: as `open_table` has them, for every table

    Raises:
        DataError: as `open_table`, for the first table that cannot be opened.
    """
    if isinstance(source, Mapping) and source and all(_is_table(one) for one in source.values()):
        return Joined({str(name): _open(one, str(name), root, cache) for name, one in source.items()})
    if isinstance(source, list | tuple) and source and all(_is_table(one, row=True) for one in source):
        if len(source) == 1:
            return _open(source[0], None, root, cache)
        return Joined(dict(zip(_names(source), (_open(one, None, root, cache) for one in source), strict=True)))
    return source if isinstance(source, Table) else open_table(source, root=root, cache=cache)


class Joined(Table):
    """Tables one below the other, as one table with the union of their columns.

    A column that a table lacks is empty in its rows: an input that is missing there, a target that has a gap. Media
    paths start from each table's own root, and a fault names a table and the row within it. Items of equal content are
    one item, whichever table they stand in.

    tables: by the name of their data set, in order
    columns: columns of another table that this one shall have as well, empty where none of its own tables has them

    Columns hold one kind of cell: whole numbers and decimals join as decimals, paths join with bytes and pictures. A
    column whose cells are of other kinds in two tables is an error as soon as it is read, so that it can be ignored.

    Raises:
        DataError: there is no table.
    """

    data_set: np.ndarray

    def __init__(self, tables: Mapping[str, Table], *, columns: Mapping[str, pa.DataType | None] | None = None) -> None:
        if not tables:
            raise DataError("there is no table among the data sets")
        self.tables = list(tables.values())
        self.data_sets = tuple(tables)
        self.name = " + ".join(one.name for one in self.tables)
        self.root = _common([one.root for one in self.tables])
        lengths = [len(one) for one in self.tables]
        self._first = np.cumsum([0, *lengths])
        self.data_set = np.repeat(np.arange(len(self.tables)), lengths)
        twice = {name for name, count in Counter(one.name for one in self.tables).items() if count > 1}
        self._shown = [one.name if one.name not in twice else f"{name} ({one.name})" for name, one in tables.items()]
        self._added = dict(columns or {})
        own = [column for one in self.tables for column in one.columns]
        self._names = list(dict.fromkeys([*own, *self._added]))
        self._kinds: dict[str, pa.DataType | None] = {}

    @property
    def columns(self) -> list[str]:
        return list(self._names)

    def __len__(self) -> int:
        return len(self.data_set)

    def like(self, other: Table) -> Joined:
        """These tables with every column of `other`."""
        kinds = {column: other.kind(column) for column in other.columns if column not in self._names}
        return Joined(dict(zip(self.data_sets, self.tables, strict=True)), columns=kinds)

    def kind(self, column: str) -> pa.DataType | None:
        """The type of the column's cells in all tables together; None where they are Python objects.

        Raises:
            DataError: there is no such column, or two tables have cells of different kinds in it; it names both.
        """
        if column not in self._names:
            raise DataError(f"there is no column {column!r}; {nearest(column, self._names)}", file=self.name)
        if column not in self._kinds:
            self._kinds[column] = self._common_kind(column)
        return self._kinds[column]

    def values(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        rows = self.checked(rows)
        kind, sets = self.kind(column), self.data_set[rows]
        order = np.argsort(sets, kind="stable")
        parts = [
            self._cells(number, column, rows[order][sets[order] == number] - self._first[number])
            for number in range(len(self.tables))
        ]
        back = np.argsort(order, kind="stable")
        if kind is None:
            cells = [cell for part in parts for cell in part]
            return [cells[place] for place in back]
        return pa.chunked_array([pa.concat_arrays([chunk for part in parts for chunk in part.chunks]).take(back)])

    def sample(self, column: str, limit: int = 2000, seed: int = 0) -> ColumnSample:
        """Up to `limit` rows spread over the tables that have the column. Paths are rewritten to start from `root`,
        which holds the roots of all tables."""
        kind = self.kind(column)
        having = [number for number, one in enumerate(self.tables) if column in one.columns]
        rows = np.flatnonzero(np.isin(self.data_set, having))
        edges = np.linspace(0, len(rows), min(limit, len(rows)) + 1).astype(np.int64)
        drawn = rows[np.random.default_rng(seed).integers(edges[:-1], edges[1:])] if len(rows) else rows
        values = self._rooted(column, drawn)
        cells = values if isinstance(values, list) else values.to_pylist()
        present = [cell for cell in cells if cell is not None]
        return ColumnSample(column, present, kind, len(rows), len(cells), len(cells) - len(present), self.root)

    def block(
        self,
        rows: np.ndarray,
        columns: list[str],
        *,
        faults: Faults,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> Block:
        """Rows of several tables at once; their numbers, and those of their faults, are those of the joined table."""
        rows = np.asarray(rows, dtype=np.int64)
        cells: dict[str, Any] = {column: self._rooted(column, rows) for column in columns}
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
        """`rows` in blocks of one table each; row numbers of a block are those within its table."""
        rows = np.asarray(rows, dtype=np.int64)
        for stretch in np.split(rows, np.flatnonzero(np.diff(self.data_set[rows])) + 1):
            if not len(stretch):
                continue
            number = int(self.data_set[stretch[0]])
            table, local = self.tables[number], stretch - self._first[number]
            own = [column for column in columns if column in table.columns]
            for block in table.blocks(local, own, size, faults=faults, limits=limits, cache=cache):
                cells = {
                    column: self._as_joined(number, column, block.columns.get(column), len(block)) for column in columns
                }
                yield replace(block, columns=cells, table=self._shown[number])

    def fingerprint(self) -> str:
        digest = xxhash.xxh3_128()
        for name, table in zip(self.data_sets, self.tables, strict=True):
            digest.update(f"{name}\0{table.fingerprint()}\0".encode())
        return digest.hexdigest()

    def _cells(self, number: int, column: str, local: np.ndarray) -> Any:
        """Cells of one table, as `_as_joined` gives them."""
        table = self.tables[number]
        return self._as_joined(
            number, column, table.values(column, local) if column in table.columns else None, len(local)
        )

    def _as_joined(self, number: int, column: str, cells: Any, rows: int) -> Any:
        """The cells of one table as the joined column has them, an Arrow array of its kind or a list of objects; None
        stands for a column that the table lacks."""
        kind = self.kind(column)
        if cells is None:
            return [None] * rows if kind is None else pa.chunked_array([pa.nulls(rows, kind)])
        if kind is None:
            return cells if isinstance(cells, list) else cells.to_pylist()
        try:
            return cells.cast(kind)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"a whole number is too large to stand beside the numbers of the other tables ({error})",
                column=column,
                file=self._shown[number],
            ) from None

    def _rooted(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        """Cells in which the path of a file that is there starts from the common root, not from that of its table."""
        values, kind = self.values(column, rows), self.kind(column)
        if kind is not None and kind != pa.string():
            return values
        cells = list(values) if isinstance(values, list) else values.to_pylist()
        for place, number in enumerate(self.data_set[rows]):
            cell, root = cells[place], self.tables[number].root
            if isinstance(cell, str) and root is not None and root != self.root and _names_file(root, cell):
                cells[place] = os.path.relpath(root.resolve() / cell, self.root)
        return cells if kind is None else pa.chunked_array([pa.array(cells, kind)])

    def _common_kind(self, column: str) -> pa.DataType | None:
        found = [(shown, one.kind(column)) for shown, one in self._with(column)]
        if not found:
            return self._added[column]
        (first, kind), *others = found
        for shown, other in others:
            joint = _joint(kind, other)
            if joint is _CLASH:
                raise DataError(
                    f"{first} has {_said(kind)} in it, and {shown} has {_said(other)}: write both alike, rename one, "
                    "or leave the column out by data.ignore",
                    column=column,
                )
            kind = joint
        return kind

    def _with(self, column: str) -> list[tuple[str, Table]]:
        return [(shown, one) for shown, one in zip(self._shown, self.tables, strict=True) if column in one.columns]


_CLASH = pa.field("clash", pa.null())


def _joint(one: pa.DataType | None, other: pa.DataType | None) -> Any:
    """The type in which cells of both types stand; None for Python objects; `_CLASH` where there is none."""
    if one == other:
        return one
    if one is None or other is None or {_said(one), _said(other)} == {"texts", "bytes"}:
        plain = [kind for kind in (one, other) if kind is not None]
        return None if all(_said(kind) not in ("numbers", "truth values", "times") for kind in plain) else _CLASH
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = _joint(one.value_type, other.value_type)
        return _CLASH if inner is _CLASH or inner is None else pa.list_(inner)
    if _said(one) == _said(other) == "numbers":
        return pa.int64() if pa.types.is_integer(one) and pa.types.is_integer(other) else pa.float64()
    return _CLASH


def _said(kind: pa.DataType | None) -> str:
    """What a user calls cells of a type."""
    types = pa.types
    if kind is None:
        return "pictures or arrays"
    if types.is_integer(kind) or types.is_floating(kind):
        return "numbers"
    if types.is_boolean(kind):
        return "truth values"
    if types.is_string(kind):
        return "texts"
    if types.is_binary(kind):
        return "bytes"
    if types.is_temporal(kind):
        return "times"
    if types.is_list(kind):
        return f"lists of {_said(kind.value_type)}"
    return f"cells of type {kind}"


def _is_table(source: Any, *, row: bool = False) -> bool:
    """Whether a value is a table of its own, and not a column of one (or, with `row`, a row)."""
    if isinstance(source, Mapping):
        return not row
    frame = hasattr(source, "columns") and (hasattr(source, "iloc") or hasattr(source, "to_arrow"))
    return isinstance(source, str | os.PathLike | Table | pa.Table) or frame


def _open(source: Any, name: str | None, root: Path | None, cache: Path) -> Table:
    if isinstance(source, Table):
        return source
    table = open_table(source, root=root, cache=cache)
    if name is not None and not isinstance(source, str | os.PathLike):
        table.name = name
    return table


def _names(sources: Sequence[Any]) -> list[str]:
    """A name for each data set: of its file, with its folder where two files are called the same."""
    paths = [Path(one) if isinstance(one, str | os.PathLike) else None for one in sources]
    stems = [path.stem if path is not None else f"table {place + 1}" for place, path in enumerate(paths)]
    long = [
        f"{path.resolve().parent.name}/{stem}" if path is not None and stems.count(stem) > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]
    return [name if long.count(name) == 1 else f"{name} {place + 1}" for place, name in enumerate(long)]


def _common(roots: Sequence[Path | None]) -> Path | None:
    """The folder that holds all the roots; the root itself where there is one alone."""
    known = list(dict.fromkeys(root for root in roots if root is not None))
    if len(known) <= 1:
        return known[0] if known else None
    return Path(os.path.commonpath([root.resolve() for root in known]))


def _names_file(root: Path, cell: str) -> bool:
    return 0 < len(cell) < _LONGEST_PATH and "\0" not in cell and os.path.isfile(root / cell)
