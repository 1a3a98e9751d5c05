"""Baseline models on frozen features, trained and evaluated on the folds of a search."""

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

#: A baseline model, or the constant prediction.
BaselineKind = Literal["linear", "ridge", "trees", "constant"]

BASELINE_MODELS: tuple[BaselineModel, ...] = ("linear", "ridge", "trees")
#: Maximum number of training rows per fold; more rows are subsampled.
MAX_ROWS = 20_000
#: Maximum number of classes or labels for boosted trees, which train one tree per class in every round.
MAX_TREE_OUTPUTS = 60


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """Out-of-fold predictions of one baseline model on some inputs.

    predictions: `[rows, k]`, probabilities, or numbers standardized over the whole table
    inner_scores: the skill score on the inner folds of each fold; seconds: time of all folds
    num_parameters: number of parameters fitted in the last fold
    """

    predictions: np.ndarray
    inner_scores: list[float]
    seconds: float
    num_parameters: int


class FrozenFeatureBaselines:
    """Out-of-fold predictions of baseline models on any set of inputs, cached.

    outputs: the outputs with one prediction per row; notes: inputs and outputs that were skipped, with reasons
    is_short_of_time: whether a time limit left no time for a baseline or for the predictions of the audit
    """

    def __init__(self, folds: Folds, *, progress: Progress) -> None:
        self.folds, self.progress, self.is_short_of_time = folds, progress, False
        self.features = FrozenFeatures(folds, progress=progress)
        self.inputs = self.features.inputs
        self.outputs = [name for name, task in folds.tasks.items() if not task.has_several_predictions]
        self.notes = list(self.features.notes)
        for name, task in folds.tasks.items():
            if task.has_several_predictions:
                kind = task.options.name
                self.notes.append(
                    f"output {name!r} ({kind}) has several predictions per row, so its only baseline is the constant "
                    "prediction"
                )
            elif "trees" not in self.models_for(name):
                self.notes.append(
                    f"output {name!r}: {task.output_size} {task.space} outputs are too many for boosted trees"
                )
        self._cache: dict[tuple[str, BaselineKind, tuple[str, ...]], OutOfFoldPredictions] = {}

    def models_for(self, output: str) -> list[BaselineModel]:
        """The baseline models for this output."""
        task = self.folds.tasks[output]
        used: list[BaselineModel] = ["linear"] if task.space == "real" else ["linear", "ridge"]
        return [*used, "trees"] if task.space == "real" or task.output_size <= MAX_TREE_OUTPUTS else used

    def predict(self, output: str, kind: BaselineKind, inputs: tuple[str, ...] = ()) -> OutOfFoldPredictions:
        """Predict every row out of fold; NaN for a fold without training rows."""
        key = (output, kind, inputs)
        if key not in self._cache:
            self._cache[key] = self._predict(*key)
        return self._cache[key]

    def distribution(self, output: str, predicted: OutOfFoldPredictions) -> np.ndarray:
        """Predictions as distributions: probabilities, or numbers in the original units."""
        task = self.folds.tasks[output]
        return task.truth(predicted.predictions) if task.space == "real" else predicted.predictions

    def weights(self, output: str) -> np.ndarray:
        """The training weight `[rows]` of each row: its sample weight times its class weight."""
        truth = self.folds.reference.truth
        weight = np.ones(truth.rows) if truth.weight is None else truth.weight.astype(np.float64)
        task = self.folds.tasks[output]
        if task.space == "categorical":
            weight = weight * np.asarray(task.weights)[truth.targets[output][0]]  # type: ignore[attr-defined]
        return weight

    def data_for(self, output: str, rows: np.ndarray) -> BaselineData:
        """The training data of some rows with known targets."""
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

    def _predict(self, output: str, kind: BaselineKind, inputs: tuple[str, ...]) -> OutOfFoldPredictions:
        start = time.perf_counter()
        task = self.folds.tasks[output]
        predictions = np.full((len(self.folds.table), task.output_size), np.nan)
        inner_scores, num_parameters = [], 0
        for fold, splits in enumerate(self.folds.splits):
            training_rows = self._training_rows(output, fold)
            new = splits["test"].rows
            if len(training_rows) == 0:
                inner_scores.append(0.0)
                continue
            data = self.data_for(output, training_rows)
            if kind == "constant":
                prediction = predict_constant(data, len(new))
            else:
                matrices = [self.features.matrix(name, fold) for name in inputs]
                prediction = fit_predict(
                    kind, [matrix[training_rows] for matrix in matrices], [matrix[new] for matrix in matrices], data
                )
            predictions[new] = prediction.predictions
            inner_scores.append(prediction.inner_score)
            num_parameters = prediction.num_parameters
        return OutOfFoldPredictions(predictions, inner_scores, time.perf_counter() - start, num_parameters)

    def _training_rows(self, output: str, fold: int) -> np.ndarray:
        """The training and validation rows with a positive weight and a known target."""
        splits = self.folds.splits[fold]
        rows = np.sort(np.concatenate([splits["train"].rows, splits["validation"].rows]))
        present = self.folds.reference.truth.targets[output][1]
        rows = rows[present[rows] & (self.weights(output)[rows] > 0)]
        if len(rows) > MAX_ROWS:
            rows = np.sort(np.random.default_rng(self.folds.recipe.seed).choice(rows, MAX_ROWS, replace=False))
        return rows


def _target_array(task: Task, value: np.ndarray) -> np.ndarray:
    return value.astype(np.float64) if task.space == "real" else value.astype(np.int64)
