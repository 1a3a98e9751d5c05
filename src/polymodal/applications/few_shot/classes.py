"""Names for rows by a classifier on embeddings: their task, their targets, their scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.core.errors import DataError
from polymodal.data.table.cell_errors import Faults
from polymodal.data.table.table import Table
from polymodal.evaluation.scores import score_output
from polymodal.model.model import Model
from polymodal.recipe.data import LimitOptions
from polymodal.tasks.classify import Classify
from polymodal.tasks.labels import Label


class Names(Classify):
    """A classification of which some rows may have no answer: those whose distribution is NaN, as they lack the input.

    It is no component of recipes; its classes come from `of`, or from a column of labels by `fit`.
    """

    def __init__(self, column: str) -> None:
        super().__init__(Classify.Options(), columns=[column])

    @classmethod
    def of(cls, column: str, labels: list[Label]) -> Names:
        """The names of these classes, each as frequent as the others."""
        task = cls(column)
        task.load({"labels": labels, "rows": [1] * len(labels)})
        return task

    def predict(self, distribution: np.ndarray) -> list[Any]:
        known = ~np.isnan(distribution).any(1)
        found = iter(super().predict(distribution[known]))
        return [next(found) if one else None for one in known]


def read_target(task: Names, table: Table, faults: Faults, *, fit: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The class number of each row of `table`, `[rows]`, and whether the row has one; `fit` learns the classes first.

    Raises:
        DataError: there is no such column; (fit) it holds fewer than two classes.
    """
    rows, limits = np.arange(len(table)), LimitOptions()
    if fit:
        task.fit(table.blocks(rows, task.columns, faults=Faults(), limits=limits))
    parts = [task.prepare(block) for block in table.blocks(rows, task.columns, faults=faults, limits=limits)]
    if not parts:
        raise DataError("the table has no rows", file=table.name)
    return np.concatenate([value for value, _ in parts]), np.concatenate([known for _, known in parts])


def score_names(
    task: Names, model: Model, distribution: np.ndarray, target: np.ndarray, present: np.ndarray
) -> dict[str, Any]:
    """Every metric of a classification as in `metrics.json`, over rows that have a target and the input.

    Accuracy also has `rows` and `right`, how many were scored and named rightly, `left_out`, the rows that have a
    target and lack the input, `chance`, one over the number of classes, and `p_value`, of the exact one-sided binomial
    test that the rows were named by chance.

    Raises:
        DataError: no row can be scored.
    """
    from scipy.stats import binomtest

    seen = present & ~np.isnan(distribution).any(1)
    rows, right = int(seen.sum()), int((distribution[seen].argmax(1) == target[seen]).sum())
    if not rows:
        raise DataError("no row has both the input and one of the classes", column=task.columns[0])
    options, seed = model.recipe.evaluation, model.recipe.seed
    found = score_output(task, distribution[seen], target[seen], seen[seen], None, options, seed=seed)
    scores = {name: score.model_dump() for name, score in found.items()}
    chance = 1 / task.outputs
    scores["accuracy"] |= {
        "rows": rows,
        "right": right,
        "left_out": int(present.sum()) - rows,
        "chance": chance,
        "p_value": float(binomtest(right, rows, chance, alternative="greater").pvalue),
    }
    return scores
