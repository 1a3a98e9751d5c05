"""Consecutive rows of a table as a table, whose errors name the rows of the whole table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.data.table.base import Table
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.cell_kinds import CellKind
from polymodal.data.table.sample import ColumnSample
from polymodal.recipe.data import LimitOptions


class RowRange(Table):
    """The rows `start` to `stop - 1` of a table. The row numbers of blocks and cell errors are those of `table`.

    Example:
        >>> from polymodal.data.table.table import open_table
        >>> table = open_table({"x": [5, 6, 7, 8]}, cache=Path("cache"))
        >>> RowRange(table, 1, 3).values("x", np.arange(2)).to_pylist()
        [6, 7]
    """

    def __init__(self, table: Table, start: int, stop: int) -> None:
        self._table, self._start, self._stop = table, start, stop
        self.name, self.root, self.folder = table.name, table.root, table.folder
        self.data_sets = table.data_sets
        self.data_set = None if table.data_set is None else table.data_set[start:stop]

    @property
    def columns(self) -> list[str]:
        return self._table.columns

    def __len__(self) -> int:
        return self._stop - self._start

    def column_type(self, column: str) -> pa.DataType | None:
        return self._table.column_type(column)

    def values(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        return self._table.values(column, self.check_rows(rows) + self._start)

    def sample(self, column: str, limit: int = 2000, seed: int = 0) -> ColumnSample:
        return self._table.sample(column, limit, seed)

    def block(
        self,
        rows: np.ndarray,
        columns: list[str],
        *,
        errors: CellErrors,
        limits: LimitOptions,
        cache: Path | None = None,
    ) -> RowBlock:
        return self._table.block(
            self.check_rows(rows) + self._start, columns, errors=errors, limits=limits, cache=cache
        )

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
        rows = self.check_rows(rows) + self._start
        return self._table.blocks(rows, columns, size, errors=errors, limits=limits, cache=cache)

    def fingerprint(self) -> str:
        return f"{self._table.fingerprint()} {self._start} {self._stop}"

    def source_key(self) -> str:
        return f"{self._table.source_key()} {self._start} {self._stop}"

    def read_with(self, kinds: Mapping[str, CellKind]) -> Table:
        read = self._table.read_with(kinds)
        return self if read is self._table else RowRange(read, self._start, self._stop)
