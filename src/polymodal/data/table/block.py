"""A block of rows on its way through preparation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.data.table.cell_errors import Fault, Faults
from polymodal.recipe.data import LimitOptions


@dataclass(frozen=True)
class Block:
    """Consecutive or chosen rows of a table, with what preparation needs to know about them.

    columns: cells by column name: an Arrow array, or a Python list where cells hold PIL images or numpy arrays
    rows: `[n]` int64, row numbers in the table as it was given
    root: the folder that relative media paths start from; a path may not leave it. None: paths are refused
    table: the table's name, for fault reports
    cache: folder of the decoded-media store, or None to keep decoded media in memory (prediction)
    """

    columns: dict[str, pa.ChunkedArray | Sequence[Any]]
    rows: np.ndarray
    root: Path | None
    table: str
    faults: Faults
    limits: LimitOptions
    cache: Path | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, column: str) -> list[Any]:
        """The column's cells as Python values; None where the cell is null."""
        values = self.columns[column]
        return values.to_pylist() if isinstance(values, pa.ChunkedArray | pa.Array) else list(values)

    def fault(self, position: int, column: str, reason: str, file: str | None = None) -> None:
        """Report the cell at `position` of this block."""
        self.faults.add(Fault(int(self.rows[position]), column, reason, file, self.table))
