"""The folds of a search, and the scores of candidates on them."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from polymodal.data.partition import Split, make_fold_splits
from polymodal.data.table.table import Table
from polymodal.evaluation.ground_truth import GroundTruth
from polymodal.experiments.stored_inputs import StoredInputs
from polymodal.metrics.base import Metric
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.base import Task
from polymodal.tuning.candidate import Distributions


class Folds:
    """A fixed division of a table into folds: every candidate is trained, validated and tested on the same rows.

    table: all rows; recipe: the complete base recipe, except that epochs and batch size may be unset (see
        `complete_schedule`)
    parts: by fold, `train`, `validation` and `test` (`test` contains the rows of the fold, which are predicted out of
        fold)
    stored: the inputs of a store of prepared rows of the table; None without one
    reference: the targets of the whole table
    fold_of: the fold of each row, `[rows]`
    """

    def __init__(self, table: Table, recipe: Recipe, count: int, stored: StoredInputs | None = None) -> None:
        """Divide `table` into `count` folds, grouped and stratified by `data.split`.

        Raises:
            DataError: there are more folds than rows or groups, or a split would be empty.
        """
        self.table, self.recipe, self.stored = table, recipe, stored
        self.splits: list[dict[str, Split[Table]]] = make_fold_splits(recipe, table, count)
        self.reference = GroundTruth(recipe, table)
        self.fold_of = np.full(len(table), -1)
        for number, parts in enumerate(self.splits):
            self.fold_of[parts["test"].rows] = number

    def __len__(self) -> int:
        return len(self.splits)

    @property
    def tasks(self) -> dict[str, Task]:
        """The reference task of each output, fitted on all rows."""
        return self.reference.tasks

    @cached_property
    def output(self) -> str:
        """The first output, whose first metric is the score of a candidate."""
        return next(iter(self.tasks))

    @cached_property
    def metric(self) -> Metric:
        """The first metric of the first output."""
        return self.tasks[self.output].metrics[0]

    def predicted_rows(self, distributions: Distributions) -> np.ndarray:
        """The rows `[n]` with a prediction for the first output."""
        return np.flatnonzero(~np.isnan(distributions[self.output]).any(axis=1))

    def score(self, distributions: Distributions, rows: np.ndarray | None = None) -> float:
        """The score of a candidate over `rows` (None: all predicted rows); greater is better; NaN if undefined."""
        rows = self.predicted_rows(distributions) if rows is None else rows
        value = self.reference.value(self.output, self.metric, distributions[self.output], rows)
        return float(value if self.metric.greater_is_better else -value)

    def fold_scores(self, distributions: Distributions) -> list[float]:
        """The score of each fold that was run, in the order of the folds."""
        completed = set(self.fold_of[self.predicted_rows(distributions)].tolist())
        return [self.score(distributions, self.splits[fold]["test"].rows) for fold in sorted(completed)]

    def metrics(
        self, distributions: Distributions, *, intervals: bool = True
    ) -> dict[str, dict[str, dict[str, float | None]]]:
        """`value`, `low` and `high` of all metrics of all outputs over the predicted rows.

        intervals: compute bootstrap intervals (over groups, if any) with the options of `evaluation`; otherwise `low`
            and `high` are None
        """
        options = self.recipe.evaluation
        options = options if intervals else options.model_copy(update={"bootstrap_samples": 0})
        rows = self.predicted_rows(distributions)
        results = {}
        for name in self.tasks:
            scores = self.reference.scores(name, distributions[name], options, self.recipe.seed, rows)
            results[name] = {
                metric: {key: getattr(one, key) for key in _SCORE_FIELDS} for metric, one in scores.items()
            }
        return results


_SCORE_FIELDS = ("value", "low", "high")
