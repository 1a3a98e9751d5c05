"""The folds on which every candidate of a search is tried, and how their answers are scored."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from polymodal.data.partition import Split, make_fold_splits
from polymodal.data.table.table import Table
from polymodal.evaluation.ground_truth import GroundTruth
from polymodal.metrics.base import Metric
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.base import Task
from polymodal.tuning.candidate import Distributions


class Folds:
    """One table divided once: every candidate trains, validates and is tested on the same rows.

    table: all rows; recipe: the complete base recipe, whose epochs and batch may be open (see `complete_schedule`)
    parts: by fold, `train`, `valid` and `test` (the fold's own rows, `test`, are decided out of fold)
    reference: the truth of the whole table, read once
    fold_of: the fold of each row, `[rows]`
    """

    def __init__(self, table: Table, recipe: Recipe, count: int) -> None:
        """Divide `table` into `count` folds, grouped and stratified as `data.split` says.

        Raises:
            DataError: there are more folds than rows or groups, or a part would be empty.
        """
        self.table, self.recipe = table, recipe
        self.parts: list[dict[str, Split[Table]]] = make_fold_splits(recipe, table, count)
        self.reference = GroundTruth(recipe, table)
        self.fold_of = np.full(len(table), -1)
        for number, parts in enumerate(self.parts):
            self.fold_of[parts["test"].rows] = number

    def __len__(self) -> int:
        return len(self.parts)

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

    def decided(self, distributions: Distributions) -> np.ndarray:
        """The rows `[n]` that have an answer for the first output."""
        return np.flatnonzero(~np.isnan(distributions[self.output]).any(axis=1))

    def score(self, distributions: Distributions, rows: np.ndarray | None = None) -> float:
        """The score of a candidate over `rows` (None: all that are decided), greater is better; NaN if undefined."""
        rows = self.decided(distributions) if rows is None else rows
        value = self.reference.value(self.output, self.metric, distributions[self.output], rows)
        return float(value if self.metric.greater_is_better else -value)

    def fold_scores(self, distributions: Distributions) -> list[float]:
        """The score over the rows of each fold that was run, in the order of the folds."""
        known = set(self.fold_of[self.decided(distributions)].tolist())
        return [self.score(distributions, self.parts[fold]["test"].rows) for fold in sorted(known)]

    def metrics(
        self, distributions: Distributions, *, intervals: bool = True
    ) -> dict[str, dict[str, dict[str, float | None]]]:
        """`value`, `low` and `high` of every metric of every output over the decided rows.

        intervals: bootstrap intervals (groups drawn whole) as `evaluation` says; without, `low` and `high` are None
        """
        options = self.recipe.evaluation
        options = options if intervals else options.model_copy(update={"bootstrap": 0})
        rows = self.decided(distributions)
        found = {}
        for name in self.tasks:
            scores = self.reference.scores(name, distributions[name], options, self.recipe.seed, rows)
            found[name] = {metric: {key: getattr(one, key) for key in _SCORE_FIELDS} for metric, one in scores.items()}
        return found


_SCORE_FIELDS = ("value", "low", "high")
