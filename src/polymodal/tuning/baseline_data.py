"""Training data of baselines in one fold, and skill scores relative to a constant prediction."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from polymodal.core.errors import DataError
from polymodal.core.types import Space
from polymodal.data.split import folds

#: Number of inner folds, which choose the penalty, the number of trees and the model.
NUM_INNER_FOLDS = 3
#: Probabilities are clipped to this minimum in scores, so that one row costs at most 20 bits.
MIN_PROBABILITY = 2.0**-20


@dataclass(frozen=True)
class BaselineData:
    """The training targets of a baseline in one fold.

    space: see `core.types.Space`; outputs: k
    truth: class indices `[n]`, 0/1 labels `[n, k]` or standardized numbers `[n, k]`
    weight: `[n]`, sample weights; groups: `[n]`, groups that must not be split between inner folds, or None
    """

    space: Space
    outputs: int
    truth: np.ndarray
    weight: np.ndarray
    groups: np.ndarray | None
    seed: int

    def constant_prediction(self) -> np.ndarray:
        """The best constant prediction `[k]`: class or label frequencies, or means."""
        if self.space == "categorical":
            return np.bincount(self.truth, self.weight, self.outputs) / self.weight.sum()
        return np.asarray(self.weight @ self.truth / self.weight.sum())

    def inner_folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Up to `NUM_INNER_FOLDS` pairs of (training rows, validation rows), grouped, and stratified for classes; empty
        if there are too few rows or groups."""
        labels = self.truth if self.space == "categorical" else None
        groups = None if self.groups is None else self.groups.tolist()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")  # such a class is only in some inner folds
            for strata in (labels, None):
                try:
                    return folds(len(self.truth), NUM_INNER_FOLDS, self.seed, groups=groups, labels=strata)
                except DataError:
                    continue
        return []

    def subset(self, rows: np.ndarray) -> BaselineData:
        """The data of some of the rows."""
        groups = None if self.groups is None else self.groups[rows]
        return BaselineData(self.space, self.outputs, self.truth[rows], self.weight[rows], groups, self.seed)


@dataclass(frozen=True)
class BaselinePrediction:
    """Predictions of a fitted baseline.

    predictions: `[rows, k]` for new rows: probabilities, or standardized numbers
    inner_score: skill score on the inner folds (`skill_score`)
    num_parameters: number of fitted parameters
    """

    predictions: np.ndarray
    inner_score: float
    num_parameters: int


def predict_constant(data: BaselineData, rows: int) -> BaselinePrediction:
    """The constant prediction for `rows` rows."""
    return BaselinePrediction(np.tile(data.constant_prediction(), (rows, 1)), 0.0, data.outputs)


def skill_score(predictions: np.ndarray, data: BaselineData, constant: np.ndarray) -> float:
    """The improvement over a constant prediction: bits per row (and label), or the fraction of explained variance.

    Example:
        >>> import numpy as np
        >>> data = BaselineData("categorical", 2, np.array([0, 1]), np.ones(2), None, seed=0)
        >>> skill_score(np.array([[1.0, 0.0], [0.0, 1.0]]), data, data.constant_prediction())
        1.0
    """
    gain, scale = row_gains(predictions, np.broadcast_to(constant, predictions.shape), data.truth, data.space)
    baseline = data.weight @ scale
    return float(data.weight @ gain / baseline) if baseline > 0 else 0.0


def row_gains(
    predictions: np.ndarray, constant: np.ndarray, truth: np.ndarray, space: Space
) -> tuple[np.ndarray, np.ndarray]:
    """The gain `[rows]` of each row over the prediction `constant`, and its scale `[rows]`. The ratio of their sums is
    the skill score.

    categorical: log2 p(y) - log2 p0(y); binary: the mean of this over labels; the scale is 1
    real: the squared error of `constant` minus that of `predictions`, summed over columns; the scale is the former

    predictions, constant: `[rows, k]`; truth: as in `BaselineData`
    """
    if space == "real":
        error, baseline = ((one - truth) ** 2 for one in (predictions, constant))
        return (baseline - error).sum(1), baseline.sum(1)
    if space == "categorical":
        index = np.arange(len(truth))
        probability, base = predictions[index, truth], constant[index, truth]
        return np.log2(np.maximum(probability, MIN_PROBABILITY)) - np.log2(np.maximum(base, MIN_PROBABILITY)), np.ones(
            len(truth)
        )
    probability, base = (np.where(truth > 0, one, 1 - one) for one in (predictions, constant))
    bits = np.log2(np.maximum(probability, MIN_PROBABILITY)) - np.log2(np.maximum(base, MIN_PROBABILITY))
    return bits.mean(1), np.ones(len(truth))
