"""The prediction for one row as a function of the parts of one of its inputs, computed for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polymodal.data.partition import Split
from polymodal.data.store.items import PreparedInput
from polymodal.explanation.edited_rows import EditedRow, can_join, edited_table
from polymodal.explanation.explained_value import ExplainedValue
from polymodal.explanation.parts.base import Parts
from polymodal.preparation.preparation import PreparedTable

if TYPE_CHECKING:
    from polymodal.inference.ensemble_predictor import PredictsSplits

#: Bytes of edited items that are predicted at once.
MAX_BYTES = 256 * 2**20


@dataclass
class PartValue:
    """The explained number of one row with some of the parts of one input, and all of its other inputs.

    A prediction that was computed before, by a call or by `predict_together`, is not computed again.

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
    _known: dict[tuple[int, bytes], Tensor] = field(default_factory=dict, init=False, repr=False)
    _position: int = field(default=-1, init=False)

    @property
    def position(self) -> int:
        """Which number is explained: with a target of its own for each row, that of the whole row."""
        if self._position < 0:
            whole = self.raw(np.ones((1, len(self.parts)), bool))
            self._position = int(self.explained.positions(whole)[0])
        return self._position

    def __call__(self, kept: np.ndarray, donor: Parts | None = None) -> np.ndarray:
        """The number `[n]` for each row of `kept [n, parts]` bool; for `donor` see `Parts.keep`."""
        return self.explained.of(self.raw(kept, donor), np.full(len(kept), self.position))

    def raw(self, kept: np.ndarray, donor: Parts | None = None) -> Tensor:
        """The raw predictions `[n, k]` for each row of `kept [n, parts]` bool."""
        predict_together([Wanted(self, kept, donor)])
        return torch.stack([self._known[_key(one, donor)] for one in kept])

    def table(self, edited: PreparedInput) -> PreparedTable:
        """The row once for each edited item."""
        return edited_table([EditedRow(self.inputs, self.row, self.input, edited)])

    def missing(self, kept: np.ndarray, donor: Parts | None) -> np.ndarray:
        """The distinct rows of `kept` that were not computed yet."""
        distinct = np.unique(kept, axis=0)
        return distinct[[_key(one, donor) not in self._known for one in distinct]]

    def learn(self, kept: np.ndarray, donor: Parts | None, values: Tensor) -> None:
        """Keep the raw predictions `[n, k]` for the rows of `kept`."""
        self.num_predictions += len(kept)
        for one, value in zip(kept, values, strict=True):
            self._known[_key(one, donor)] = value


class Wanted(NamedTuple):
    """Predictions that are wanted: of one row, with the parts `kept [n, parts]` bool; for `donor` see `Parts.keep`."""

    value: PartValue
    kept: np.ndarray
    donor: Parts | None = None


def predict_together(wanted: Sequence[Wanted]) -> None:
    """Compute the predictions of several rows of one table in as few predictions of tables as possible; the rows know
    them afterwards. Rows whose items differ in shape are predicted one after the other."""
    groups: dict[object, list[tuple[Wanted, EditedRow]]] = {}
    for number, one in enumerate(wanted):
        value = one.value
        kept = value.missing(one.kept, one.donor)
        if not len(kept):
            continue
        edited = value.parts.keep(kept, one.donor)
        kind = can_join(edited.items) or number
        row = EditedRow(value.inputs, value.row, value.input, edited)
        groups.setdefault(kind, []).append((Wanted(value, kept, one.donor), row))
    for group in groups.values():
        for some in _batches(group):
            first = some[0][0].value
            split = Split.all_rows(edited_table([row for _, row in some]))
            found = first.predictor.predict(split, with_texts=False)[first.explained.output].values
            for (one, _), values in zip(some, torch.split(found, [len(row) for _, row in some]), strict=True):
                one.value.learn(one.kept, one.donor, values)


def _batches(group: list[tuple[Wanted, EditedRow]]) -> list[list[tuple[Wanted, EditedRow]]]:
    """The rows of a group in batches of at most `MAX_BYTES` of items."""
    batches: list[list[tuple[Wanted, EditedRow]]] = []
    size = 0.0
    for pair in group:
        own = pair[1].edited.items.item_bytes() * len(pair[1].edited.items)
        if not batches or size + own > MAX_BYTES:
            batches.append([])
            size = 0.0
        batches[-1].append(pair)
        size += own
    return batches


def _key(kept: np.ndarray, donor: Parts | None) -> tuple[int, bytes]:
    return 0 if donor is None else id(donor), kept.tobytes()
