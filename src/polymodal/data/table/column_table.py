"""Tables whose columns are in memory or in a mapped file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.core.errors import DataError, did_you_mean
from polymodal.data.objects import Root, as_root
from polymodal.data.table.arrow_cache import ColumnForms
from polymodal.data.table.base import StoredTable, Table, restore_order
from polymodal.data.table.cell_kinds import CellKind, Cells, cell_kind, kind_type, read_as
from polymodal.data.table.columns import Columns, plain_type, to_plain_type


class ColumnTable(StoredTable):
    """A table whose columns are in memory or in a mapped file.

    forms: the kinds of columns that are stored as texts, and the texts of columns that are stored as values

    Raises:
        DataError: it has no rows.
    """

    def __init__(self, columns: Columns, *, name: str, root: Root | None, forms: ColumnForms | None = None) -> None:
        self._columns, self.name = columns, name
        self._kinds, self._texts = (forms or ColumnForms()).kinds, (forms or ColumnForms()).texts
        self.root = as_root(root)
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
        return restore_order(pa.concat_arrays(parts), order)

    def _row_bytes(self, columns: list[str]) -> float:
        found = [self._find(column) for column in columns]
        return sum(one.nbytes for one in found if isinstance(one, pa.ChunkedArray)) / self._length

    def _find(self, column: str) -> pa.ChunkedArray | list[Any]:
        if column not in self._columns:
            hint = did_you_mean(column, self._columns)
            raise DataError(f"there is no column {column!r}; {hint}", file=self.name)
        return self._columns[column]
