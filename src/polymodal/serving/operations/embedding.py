"""Embeddings of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polymodal.data.table.cell_errors import CellErrors
from polymodal.model.embedding import embed_table
from polymodal.serving.operations.base import BadCell, Operation, with_bad_cells
from polymodal.serving.rows import Row
from polymodal.serving.served_model import ServedModel


@dataclass(frozen=True)
class EmbedRows(Operation):
    """The embedding of each row: float32 `[dim]` of unit length.

    input: embed only this input; None: the whole row
    dim: the number of values; None: all
    """

    input: str | None = None
    dim: int | None = None

    def compute(self, served: ServedModel, rows: list[Row]) -> list[Any]:
        model, errors = served.load_single(), CellErrors()
        vectors = embed_table(model.predictor, model.open(rows), self.input, self.dim, None, errors)
        column = self.input or "input"
        missing = BadCell(column, "the row lacks this input")
        return with_bad_cells([missing if np.isnan(vector).any() else vector for vector in vectors], errors)
