"""What a baseline learns in one fold, and how good its answers are beside the constant one."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from polymodal.core.errors import DataError
from polymodal.core.types import Space
from polymodal.data.split import folds

#: Inner folds, on which the penalty, the number of trees and the learner are chosen.
NUM_INNER_FOLDS = 3
#: A probability is never taken for less in a score: one row can cost no more than 20 bits.
MIN_PROBABILITY = 2.0**-20


@dataclass(frozen=True)
class BaselineData:
    """What is learned in one fold: the truth of the rows that are learned from.

    space: see `core.types.Space`; outputs: k
    truth: class numbers `[n]`, 0/1 labels `[n, k]` or standardised numbers `[n, k]`
    weight: `[n]`, how much each row counts; groups: `[n]`, rows that must stay in one inner fold, or None
    """

    space: Space
    outputs: int
    truth: np.ndarray
    weight: np.ndarray
    groups: np.ndarray | None
    seed: int

    def constant(self) -> np.ndarray:
        """The best constant answer `[k]`: class or label shares, or means."""
        if self.space == "categorical":
            return np.bincount(self.truth, self.weight, self.outputs) / self.weight.sum()
        return np.asarray(self.weight @ self.truth / self.weight.sum())

    def inner(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Up to `INNER` pairs of (rows to learn from, rows to score), grouped, and stratified where there are classes;
        none where rows or groups are too few."""
        labels = self.truth if self.space == "categorical" else None
        bands = None if self.groups is None else self.groups.tolist()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")  # it then is in fewer inner folds
            for strata in (labels, None):
                try:
                    return folds(len(self.truth), NUM_INNER_FOLDS, self.seed, groups=bands, labels=strata)
                except DataError:
                    continue
        return []

    def take(self, rows: np.ndarray) -> BaselineData:
        groups = None if self.groups is None else self.groups[rows]
        return BaselineData(self.space, self.outputs, self.truth[rows], self.weight[rows], groups, self.seed)


@dataclass(frozen=True)
class BaselinePrediction:
    """What a learner decides: `decided [rows, k]` for new rows (probabilities, or standardised numbers), `inner`, how
    good it was on the inner folds (`quality`), and the numbers that it learned, `parameters`."""

    decided: np.ndarray
    inner: float
    parameters: int


def predict_constant(lesson: BaselineData, rows: int) -> BaselinePrediction:
    return BaselinePrediction(np.tile(lesson.constant(), (rows, 1)), 0.0, lesson.outputs)


def skill_score(decided: np.ndarray, lesson: BaselineData, constant: np.ndarray) -> float:
    """How much better than a constant answer: bits for each row (and label), or the share of the variance explained."""
    gain, scale = row_gains(decided, np.broadcast_to(constant, decided.shape), lesson.truth, lesson.space)
    whole = lesson.weight @ scale
    return float(lesson.weight @ gain / whole) if whole > 0 else 0.0


def row_gains(decided: np.ndarray, constant: np.ndarray, truth: np.ndarray, space: Space) -> tuple[np.ndarray, np.ndarray]:
    """By how much each row is better decided than by `constant`, and its scale: their sums' quotient is the score.

    categorical: log2 p(y) - log2 p0(y); binary: the mean of the same over labels; the scale is 1
    real: the constant answer's squared error less that of `decided`, summed over columns; the scale is the first

    decided, constant `[rows, k]`, truth as in `Lesson`.
    """
    if space == "real":
        error, whole = ((one - truth) ** 2 for one in (decided, constant))
        return (whole - error).sum(1), whole.sum(1)
    if space == "categorical":
        place = np.arange(len(truth))
        chosen, base = decided[place, truth], constant[place, truth]
        return np.log2(np.maximum(chosen, MIN_PROBABILITY)) - np.log2(np.maximum(base, MIN_PROBABILITY)), np.ones(len(truth))
    chosen, base = (np.where(truth > 0, one, 1 - one) for one in (decided, constant))
    bits = np.log2(np.maximum(chosen, MIN_PROBABILITY)) - np.log2(np.maximum(base, MIN_PROBABILITY))
    return bits.mean(1), np.ones(len(truth))
