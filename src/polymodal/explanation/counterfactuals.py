"""Counterfactuals: the answer without each input, and the fewest inputs whose removal changes the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from polymodal.core.html_table import html_table
from polymodal.data.partition import Split
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task

if TYPE_CHECKING:
    from polymodal.inference.ensemble_predictor import PredictsSplits

#: Inputs up to which all sets are tried; of more, sets of up to `MAX_REMOVED` inputs.
MAX_EXACT, MAX_REMOVED = 6, 2


@dataclass(frozen=True)
class Answer:
    """A prediction, and the probability of a predicted class; None for labels and numbers."""

    value: Any
    probability: float | None


@dataclass(frozen=True)
class Counterfactual:
    """What the model would predict for a row with fewer inputs.

    answer: with all inputs of the row
    without: by input that the row has, the answer without it
    removed: the smallest set of inputs whose removal changes the answer, of several the one that leaves it the lowest
        probability; None if no set does, and for numbers
    changed: the answer without them; None if `removed` is None
    """

    answer: Answer
    without: dict[str, Answer]
    removed: tuple[str, ...] | None
    changed: Answer | None


@dataclass(frozen=True)
class Counterfactuals(Sequence[Counterfactual]):
    """The counterfactuals of rows, in their order. A notebook shows a table.

    notes: where these answers should be read with care, one sentence each
    """

    output: str
    rows: tuple[Counterfactual, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Counterfactual: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Counterfactual, ...]: ...

    def __getitem__(self, at: int | slice) -> Counterfactual | tuple[Counterfactual, ...]:
        return self.rows[at]

    def _repr_html_(self) -> str:
        rows = [
            [
                str(number),
                str(one.answer.value),
                "" if one.removed is None else " + ".join(one.removed),
                "" if one.changed is None else str(one.changed.value),
            ]
            for number, one in enumerate(self)
        ]
        return html_table(rows, ["row", self.output, "smallest removal", "then"])


def counterfactuals(
    predictor: PredictsSplits, blocks: Iterable[PreparedTable], output: str, notes: Sequence[str] = ()
) -> Counterfactuals:
    """The counterfactuals of the rows of prepared blocks. Each block is encoded once for all sets of inputs."""
    names, task = list(predictor.preparation.modalities), predictor.preparation.tasks[output]
    largest = len(names) if len(names) <= MAX_EXACT else MAX_REMOVED
    hidden = [frozenset(some) for size in range(largest + 1) for some in combinations(names, size)]
    rows: list[Counterfactual] = []
    for block in blocks:
        found = predictor.predict_each(Split.all_rows(block), hidden, with_texts=False)
        each = [task.distribution(one[output].values) for one in found]
        present = {name: block.inputs[name].index >= 0 for name in names}
        rows += _block(task, hidden, each, present)
    return Counterfactuals(output, tuple(rows), tuple(notes))


def _block(
    task: Task, hidden: list[frozenset[str]], each: list[np.ndarray], present: dict[str, np.ndarray]
) -> Iterator[Counterfactual]:
    """The counterfactuals of the rows of a block.

    each: by set of hidden inputs, distributions `[rows, k]`
    """
    answers = [task.predict(one) for one in each]
    for row in range(len(each[0])):
        own = {name for name, here in present.items() if here[row]}
        sets = [at for at, some in enumerate(hidden) if some <= own]
        first = int(each[0][row].argmax())
        changing = [at for at in sets if task.space != "real" and answers[at][row] != answers[0][row]]
        chosen = min(changing, key=lambda at: (len(hidden[at]), each[at][row, first]), default=None)
        yield Counterfactual(
            _answer(task, answers[0][row], each[0][row]),
            {
                next(iter(hidden[at])): _answer(task, answers[at][row], each[at][row])
                for at in sets
                if len(hidden[at]) == 1
            },
            None if chosen is None else tuple(name for name in present if name in hidden[chosen]),
            None if chosen is None else _answer(task, answers[chosen][row], each[chosen][row]),
        )


def _answer(task: Task, value: Any, distribution: np.ndarray) -> Answer:
    return Answer(value, float(distribution.max()) if task.space == "categorical" else None)
