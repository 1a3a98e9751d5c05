"""Logistic regression on a `DesignMatrix` for a sequence of penalties: of classes, or of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit

from polymodal.estimators.base import EstimatorTarget
from polymodal.estimators.design_matrix import Coefficients, DesignMatrix, raw_predictions
from polymodal.estimators.lbfgs import minimize_lbfgs
from polymodal.estimators.row_space import RowSpace, is_smaller_in_rows

MAX_STEPS, TOLERANCE = 100, 1e-4
#: The factor of intercepts in the space of the rows, where a smaller step suits them.
INTERCEPT = np.float32(0.1)


def logistic_path(x: DesignMatrix, target: EstimatorTarget, penalties: Sequence[float]) -> Iterator[Coefficients]:
    """The coefficients for each of the penalties, which decrease: L-BFGS, warm-started from the penalty before.

    A class without rows, and a label that all rows or no rows have, keep the constant prediction. With many more
    columns than rows, the same model is fitted by a factor for each row (`RowSpace`).
    """
    truth = LogisticTruth.of(target)
    path = _path_in_rows if is_smaller_in_rows(x) else _path_in_columns
    constant = target.constant()
    for weights in path(x, truth, constant[truth.active], penalties):
        coefficients = np.zeros((x.shape[1] + 1, target.size), np.float32)
        coefficients[-1] = constant
        coefficients[:, truth.active] = weights
        yield coefficients


@dataclass(frozen=True)
class LogisticTruth:
    """The classes or labels that are fitted.

    active: their numbers `[k]`: classes with rows, labels that some rows have and others do not
    truth: `[rows, k]` float32, 0 and 1
    weight: `[rows, 1]` float32; they sum to 1
    spread: the mean variance of a class or label
    categorical: whether the classes are mutually exclusive
    """

    active: np.ndarray
    truth: np.ndarray
    weight: np.ndarray
    spread: float
    categorical: bool

    @classmethod
    def of(cls, target: EstimatorTarget) -> LogisticTruth:
        """The classes or labels of a target."""
        weight = target.weight / target.weight.sum()
        if target.space == "categorical":
            shares = np.bincount(target.values, weight, minlength=target.size)
            active = np.flatnonzero(shares > 0)
            truth = target.values[:, None] == active
        else:
            shares = weight @ target.values
            active = np.flatnonzero((shares > 0) & (shares < 1))
            truth = target.values[:, active]
        spread = float((shares * (1 - shares)).mean() or 1.0)
        weight = weight.astype(np.float32)[:, None]
        return cls(active, truth.astype(np.float32), weight, spread, target.space == "categorical")

    def loss(self, logits: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean cross-entropy over classes, or the sum of the binary cross-entropies of all labels, and its gradient
        `[rows, k]`."""
        if self.categorical:
            logits = logits - logits.max(axis=1, keepdims=True)
            exponentials = np.exp(logits)
            total = exponentials.sum(axis=1, keepdims=True)
            losses = np.log(total) - (logits * self.truth).sum(axis=1, keepdims=True)
            residual = self.weight * (exponentials / total - self.truth)
        else:
            losses = np.logaddexp(0, logits) - logits * self.truth
            residual = self.weight * (expit(logits) - self.truth)
        return float((self.weight * losses).sum(dtype=np.float64)), residual


def _path_in_columns(
    x: DesignMatrix, truth: LogisticTruth, constant: np.ndarray, penalties: Sequence[float]
) -> Iterator[np.ndarray]:
    """The weights of columns `[columns + 1, k]`. The columns are scaled by the diagonal of the Hessian at the constant
    prediction."""
    mean, square = x.moments(truth.weight[:, 0].astype(np.float64))
    curvature = np.append((square - mean**2).clip(0), 1.0) * truth.spread
    free = np.append(np.ones(x.shape[1]), 0.0).astype(np.float32)[:, None]

    def objective(point: np.ndarray, scale: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        weights = scale * point
        value, residual = truth.loss(raw_predictions(x, weights))
        slope = np.concatenate([x.transposed_dot(residual), residual.sum(axis=0, keepdims=True)])
        slope += np.float32(penalty) * free * weights
        return value + 0.5 * penalty * float((np.square(weights) * free).sum(dtype=np.float64)), scale * slope

    weights = np.zeros((x.shape[1] + 1, len(truth.active)), np.float32)
    weights[-1] = constant
    for penalty in penalties:
        scale = (1 / np.sqrt(curvature + penalty)).astype(np.float32)[:, None]
        found = minimize_lbfgs(
            partial(objective, scale=scale, penalty=penalty), weights / scale, max_steps=MAX_STEPS, tolerance=TOLERANCE
        )
        weights = scale * found
        yield weights


def _path_in_rows(
    x: DesignMatrix, truth: LogisticTruth, constant: np.ndarray, penalties: Sequence[float]
) -> Iterator[np.ndarray]:
    """The weights of columns `[columns + 1, k]`, by factors of rows.

    A point holds the factors A `[rows, k]`, their scores K A `[rows, k]`, and the intercepts. The inner product of two
    points is that of the weights of the columns, A' K B, so that a step costs one product with K.
    """
    space, rows = RowSpace(x, truth.weight), len(truth.weight)

    def inner(left: np.ndarray, right: np.ndarray) -> float:
        product = np.dot(left[:rows].ravel(), right[rows:-1].ravel())
        return float(product + np.dot(left[-1], right[-1]))

    def objective(point: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        factors, scores = point[:rows], point[rows:-1]
        value, residual = truth.loss(scores + INTERCEPT * point[-1])
        slope = np.empty_like(point)
        slope[:rows] = residual + np.float32(penalty) * factors
        slope[rows:-1] = space.products @ slope[:rows]
        slope[-1] = INTERCEPT * residual.sum(axis=0)
        return value + 0.5 * penalty * float(np.dot(factors.ravel(), scores.ravel())), slope

    point = np.zeros((2 * rows + 1, len(truth.active)), np.float32)
    point[-1] = constant / INTERCEPT
    for penalty in penalties:
        point[rows:-1] = space.products @ point[:rows]  # without the rounding errors of many steps
        point = minimize_lbfgs(
            partial(objective, penalty=penalty), point, max_steps=MAX_STEPS, tolerance=TOLERANCE, inner=inner
        )
        yield space.weights(point[:rows], INTERCEPT * point[-1])
