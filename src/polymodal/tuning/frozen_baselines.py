"""Fixed features on the folds of a search, and what the two learners make of any of the inputs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from polymodal.core.progress import Progress
from polymodal.tasks.base import Task
from polymodal.tuning.baseline_data import BaselineData, predict_constant
from polymodal.tuning.baseline_models import BaselineModel, fit_predict
from polymodal.tuning.features import FrozenFeatures
from polymodal.tuning.folds import Folds

#: A learner, or the constant answer.
BaselineKind = Literal["linear", "ridge", "trees", "constant"]

BASELINE_MODELS: tuple[BaselineModel, ...] = ("linear", "ridge", "trees")
#: Of more rows in a fold, as many are drawn to learn from.
MAX_ROWS = 20_000
#: With more classes or labels than this, boosted trees (one for each in every round) would take too long.
MAX_TREE_OUTPUTS = 60


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """Out-of-fold decisions of one learner from some inputs.

    decided: `[rows, k]`, probabilities, or numbers standardised over the whole table
    inner: by fold, how good it was on inner folds (see `baseline_data.quality`); seconds: of all folds
    parameters: numbers learned in the last fold
    """

    decided: np.ndarray
    inner: list[float]
    seconds: float
    parameters: int


class FrozenFeatureBaselines:
    """Decides the rows of every fold from any of the inputs, once each.

    outputs: the outputs that can be decided (one decision for a row); notes: what was left out, and why
    """

    def __init__(self, folds: Folds, *, progress: Progress) -> None:
        self.folds, self.progress = folds, progress
        self.features = FrozenFeatures(folds, progress=progress)
        self.inputs = self.features.inputs
        self.outputs = [name for name, task in folds.tasks.items() if task.grid is None]
        self.notes = list(self.features.notes)
        for name, task in folds.tasks.items():
            if task.grid is not None:
                kind = task.options.name
                self.notes.append(
                    f"output {name!r} ({kind}) is decided moment by moment: its only baseline is constant"
                )
            elif "trees" not in self.learners(name):
                self.notes.append(f"output {name!r}: {task.output_size} {task.space} values are too many for boosted trees")
        self._decided: dict[tuple[str, BaselineKind, tuple[str, ...]], OutOfFoldPredictions] = {}

    def learners(self, output: str) -> list[BaselineModel]:
        """The learners that decide this output."""
        task = self.folds.tasks[output]
        used: list[BaselineModel] = ["linear"] if task.space == "real" else ["linear", "ridge"]
        return [*used, "trees"] if task.space == "real" or task.output_size <= MAX_TREE_OUTPUTS else used

    def decide(self, output: str, learner: BaselineKind, inputs: tuple[str, ...] = ()) -> OutOfFoldPredictions:
        """Decide every row by what was learned in its fold; a fold without a row to learn from is left NaN."""
        key = (output, learner, inputs)
        if key not in self._decided:
            self._decided[key] = self._decide(*key)
        return self._decided[key]

    def distribution(self, output: str, decided: OutOfFoldPredictions) -> np.ndarray:
        """Decisions as distributions of the whole table's task: probabilities, or numbers in the user's units."""
        task = self.folds.tasks[output]
        return task.truth(decided.decided) if task.space == "real" else decided.decided

    def weights(self, output: str) -> np.ndarray:
        """How much each row counts in learning, `[rows]`: its sample weight times that of its class."""
        truth = self.folds.reference.truth
        weight = np.ones(truth.rows) if truth.weight is None else truth.weight.astype(np.float64)
        task = self.folds.tasks[output]
        if task.space == "categorical":
            weight = weight * np.asarray(task.weights)[truth.targets[output][0]]  # type: ignore[attr-defined]
        return weight

    def lesson(self, output: str, rows: np.ndarray) -> BaselineData:
        """The truth of some rows whose target is known."""
        task, (value, _) = self.folds.tasks[output], self.folds.reference.truth.targets[output]
        groups = self.folds.reference.groups
        return BaselineData(
            space=task.space,
            outputs=task.output_size,
            truth=_target_array(task, value[rows]),
            weight=self.weights(output)[rows],
            groups=None if groups is None else groups[rows],
            seed=self.folds.recipe.seed,
        )

    def _decide(self, output: str, learner: BaselineKind, inputs: tuple[str, ...]) -> OutOfFoldPredictions:
        begun = time.perf_counter()
        task = self.folds.tasks[output]
        decided = np.full((len(self.folds.table), task.output_size), np.nan)
        inner, parameters = [], 0
        for fold, parts in enumerate(self.folds.parts):
            learned = self._learned(output, fold)
            new = parts["test"].rows
            if len(learned) == 0:
                inner.append(0.0)
                continue
            lesson = self.lesson(output, learned)
            if learner == "constant":
                answer = predict_constant(lesson, len(new))
            else:
                matrices = [self.features.matrix(name, fold) for name in inputs]
                answer = fit_predict(learner, [one[learned] for one in matrices], [one[new] for one in matrices], lesson)
            decided[new] = answer.decided
            inner.append(answer.inner)
            parameters = answer.parameters
        return OutOfFoldPredictions(decided, inner, time.perf_counter() - begun, parameters)

    def _learned(self, output: str, fold: int) -> np.ndarray:
        """The rows of training and validation that count and whose target is known."""
        parts = self.folds.parts[fold]
        rows = np.sort(np.concatenate([parts["train"].rows, parts["valid"].rows]))
        present = self.folds.reference.truth.targets[output][1]
        rows = rows[present[rows] & (self.weights(output)[rows] > 0)]
        if len(rows) > MAX_ROWS:
            rows = np.sort(np.random.default_rng(self.folds.recipe.seed).choice(rows, MAX_ROWS, replace=False))
        return rows


def _target_array(task: Task, value: np.ndarray) -> np.ndarray:
    return value.astype(np.float64) if task.space == "real" else value.astype(np.int64)
