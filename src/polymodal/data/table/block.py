"""A block of table rows, the unit of preparation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.data.objects import Root
from polymodal.data.table.cell_errors import CellError, CellErrors
from polymodal.recipe.data import LimitOptions


@dataclass(frozen=True)
class RowBlock:
    """Selected rows of a table, with everything that preparation needs.

    columns: cells by column name: an Arrow array, or a Python list if cells are PIL images or numpy arrays, or if some
        cells are not of the kind of their column
    rows: `[n]` int64, row numbers in the given table
    root: base folder of relative media paths. A path may not leave it. None: paths are refused
    table: the table's name, for error reports
    errors: collects bad cells
    cache: folder of the decoded-media store, or None to keep decoded media in memory (prediction)
    root_advice: what to do about paths that cannot be read, or ""
    """

    columns: dict[str, pa.ChunkedArray | Sequence[Any]]
    rows: np.ndarray
    root: Root | None
    table: str
    errors: CellErrors
    limits: LimitOptions
    cache: Path | None = None
    root_advice: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, column: str) -> list[Any]:
        """The cells of the column as Python values; None if the cell is null."""
        values = self.columns[column]
        return values.to_pylist() if isinstance(values, pa.ChunkedArray | pa.Array) else list(values)

    def add_error(self, position: int, column: str, reason: str, file: str | None = None) -> None:
        """Report the cell at `position` of this block as bad."""
        self.errors.add(CellError(int(self.rows[position]), column, reason, file, self.table))
