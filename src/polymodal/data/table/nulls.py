"""Which cells of a column are there."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from polymodal.data.table.table import Table


def filled(table: Table, column: str, rows: np.ndarray) -> np.ndarray:
    """Whether each of `rows [n]` has a value in `column`, usable or not: `[n]` bool."""
    cells = table.values(column, rows)
    if isinstance(cells, pa.ChunkedArray):
        return np.asarray(cells.is_valid())
    return np.array([cell is not None for cell in cells], dtype=bool)
