"""All cells of a table, for tests."""

from __future__ import annotations

import numpy as np

from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.recipe.data import LimitOptions


def cells(table: Table) -> dict[str, list]:
    block = table.block(np.arange(len(table)), table.columns, errors=CellErrors(), limits=LimitOptions())
    return {column: block.cells(column) for column in table.columns}
