"""The task of a classifier on embeddings: its classes, targets and scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.core.errors import DataError
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.evaluation.scores import score_output
from polymodal.evaluation.targets import OutputTargets
from polymodal.model.model import Model
from polymodal.recipe.data import LimitOptions
from polymodal.tasks.classification import ClassificationTask
from polymodal.tasks.labels import Label


class EmbeddingClassifierTask(ClassificationTask):
    """Classification in which rows without the input have no prediction: their distribution is NaN.

    It is not available in recipes. Its classes come from `from_labels`, or from a column of labels by `fit`.
    """

    def __init__(self, column: str) -> None:
        super().__init__(ClassificationTask.Options(), columns=[column])

    @classmethod
    def from_labels(cls, column: str, labels: list[Label]) -> EmbeddingClassifierTask:
        """A task with these classes, all with the same frequency."""
        task = cls(column)
        task.load({"labels": labels, "rows": [1] * len(labels)})
        return task

    def predict(self, distribution: np.ndarray) -> list[Any]:
        known = ~np.isnan(distribution).any(1)
        predicted = iter(super().predict(distribution[known]))
        return [next(predicted) if is_known else None for is_known in known]


def read_target(
    task: EmbeddingClassifierTask, table: Table, cell_errors: CellErrors, *, fit: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The class index `[rows]` of each row of `table`, and whether the row has a label, `[rows]` bool.

    fit: fit the classes of the task first

    Raises:
        DataError: the target column is missing, or (fit) has fewer than two classes.
    """
    rows, limits = np.arange(len(table)), LimitOptions()
    if fit:
        task.fit(table.blocks(rows, task.columns, errors=CellErrors(), limits=limits))
    parts = [task.prepare(block) for block in table.blocks(rows, task.columns, errors=cell_errors, limits=limits)]
    if not parts:
        raise DataError("the table has no rows", file=table.name)
    return np.concatenate([value for value, _ in parts]), np.concatenate([known for _, known in parts])


def score_classification(
    task: EmbeddingClassifierTask, model: Model, distribution: np.ndarray, target: np.ndarray, present: np.ndarray
) -> dict[str, Any]:
    """All classification metrics as in `metrics.json`, over rows with a label and the input.

    Rows of a class that the classifier does not know count as wrong. Accuracy also has `correct`, the number of
    correctly classified rows, `skipped`, the number of rows with a label but without the input, `chance_level`, one
    over the number of classes, and `p_value`, the p-value of the exact one-sided binomial test against this chance
    level.

    Raises:
        DataError: no row can be scored.
    """
    from scipy.stats import binomtest

    every = OutputTargets(target, present)
    labeled = every.scored(task)
    with_input = ~np.isnan(distribution).any(1)
    scored = labeled & with_input
    if not (present & with_input).any():
        raise DataError("no row has both the input and a known class", column=task.columns[0])
    rows, correct = int(scored.sum()), int((distribution[scored].argmax(1) == target[scored]).sum())
    options, seed = model.recipe.evaluation, model.recipe.seed
    skipped = int(labeled.sum()) - rows
    counts = every.counts(task).with_left_out("missing_input", skipped)
    counts = counts.model_copy(update={"unknown_class_rows": int((scored & ~present).sum())})
    results = score_output(task, distribution[scored], every.select(scored), options, seed=seed, counts=counts)
    scores = {name: score.model_dump() for name, score in results.items()}
    chance_level = 1 / task.output_size
    scores["accuracy"] |= {
        "correct": correct,
        "skipped": skipped,
        "chance_level": chance_level,
        "p_value": float(binomtest(correct, rows, chance_level, alternative="greater").pvalue),
    }
    return scores
