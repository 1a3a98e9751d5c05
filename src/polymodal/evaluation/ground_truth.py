"""The targets of a whole table, for scoring the models of several folds together."""

from __future__ import annotations

import numpy as np

from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.evaluation.class_alignment import reorder_classes
from polymodal.evaluation.scores import Score, score_metric, score_output
from polymodal.evaluation.targets import OutputTargets
from polymodal.metrics.base import Metric
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.base import Task


class GroundTruth:
    """Targets of all rows, from tasks that are fitted on all rows.

    The tasks only read targets and define the order of classes. No model is trained with them.

    tasks: by output
    truth: targets `(value, present)` by output and sample weights of every row
    groups: the group of each row for the cluster bootstrap, or None
    cell_errors: unusable target cells
    """

    def __init__(self, recipe: Recipe, table: Table) -> None:
        rows = np.arange(len(table))
        preparation = Preparation(recipe).targets_only()
        preparation.fit(table, rows)
        self.rows = len(table)
        self.tasks: dict[str, Task] = preparation.tasks
        self.cell_errors = CellErrors(recipe.data.strict)
        self.truth: PreparedTable = preparation.prepare(table, self.cell_errors, folder=None, cache=None)
        self.groups = self.truth.groups

    def empty(self) -> dict[str, np.ndarray]:
        """A distribution `[rows, k]` of each output, filled with NaN."""
        return {name: task.missing_predictions(self.rows) for name, task in self.tasks.items()}

    def reorder_classes(self, name: str, distribution: np.ndarray, task: Task) -> np.ndarray:
        """`distribution [n, k]` of the task of a fold for output `name`, in the class order of the whole table."""
        return reorder_classes(distribution, task, self.tasks[name])

    def value(self, name: str, metric: Metric, distribution: np.ndarray, rows: np.ndarray) -> float:
        """One metric of output `name` over `rows` of `distribution [all rows, k]`; NaN if undefined."""
        return score_metric(metric, self.tasks[name], distribution[rows], self.targets(name, rows))

    def scores(
        self, name: str, distribution: np.ndarray, options: EvaluationOptions, seed: int, rows: np.ndarray | None = None
    ) -> dict[str, Score]:
        """Every metric of output `name` with intervals over `rows` (None: all) of `distribution [all rows, k]`."""
        rows = np.arange(self.rows) if rows is None else rows
        return score_output(self.tasks[name], distribution[rows], self.targets(name, rows), options, seed=seed)

    def targets(self, name: str, rows: np.ndarray | None = None) -> OutputTargets:
        """The targets of output `name` on `rows` (None: all)."""
        return OutputTargets.of(Split(self.truth, np.arange(self.rows) if rows is None else rows), name)
