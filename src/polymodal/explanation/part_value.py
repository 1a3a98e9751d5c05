"""The prediction for one row as a function of the parts of one of its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from polymodal.data.partition import Split
from polymodal.data.store.items import PreparedInput
from polymodal.explanation.explained_value import ExplainedValue
from polymodal.explanation.parts.base import Parts
from polymodal.preparation.preparation import PreparedTable

if TYPE_CHECKING:
    from polymodal.inference.ensemble_predictor import PredictsSplits


@dataclass
class PartValue:
    """The explained number of one row with some of the parts of one input, and all of its other inputs.

    inputs: the prepared inputs of the table; row: its position there
    num_predictions: predictions of edited rows so far
    """

    predictor: PredictsSplits
    explained: ExplainedValue
    inputs: dict[str, PreparedInput]
    row: int
    input: str
    parts: Parts
    num_predictions: int = field(default=0, init=False)
    position: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        """Find which number is explained: with a target of its own for each row, that of the whole row."""
        values = self._raw(self.parts.keep(np.ones((1, len(self.parts)), bool)))
        self.position = int(self.explained.positions(values)[0])

    def __call__(self, kept: np.ndarray, donor: Parts | None = None) -> np.ndarray:
        """The number `[n]` for each row of `kept [n, parts]` bool; for `donor` see `Parts.keep`."""
        distinct, which = np.unique(kept, axis=0, return_inverse=True)
        values = self._raw(self.parts.keep(distinct, donor))
        return self.explained.of(values, np.full(len(distinct), self.position))[which.reshape(-1)]

    def table(self, edited: PreparedInput) -> PreparedTable:
        """The row once for each edited item."""
        rows = len(edited.index)
        others = {name: replace(one, index=np.full(rows, one.index[self.row])) for name, one in self.inputs.items()}
        return PreparedTable(others | {self.input: edited}, {}, None, rows)

    def _raw(self, edited: PreparedInput) -> Tensor:
        table = self.table(edited)
        self.num_predictions += len(table)
        return self.predictor.predict(Split.all_rows(table), with_texts=False)[self.explained.output].values
