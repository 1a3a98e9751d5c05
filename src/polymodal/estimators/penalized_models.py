"""Linear models on a `DesignMatrix` for a sequence of penalties: logistic regression, and ridge regression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.special import logsumexp

from polymodal.estimators.base import EstimatorTarget
from polymodal.estimators.design_matrix import Coefficients, DesignMatrix
from polymodal.estimators.logistic_models import logistic_path

#: Ridge regression is solved by an eigendecomposition up to this number of rows or columns, whichever is smaller.
MAX_EIGEN = 1000
MAX_STEPS = 100


def linear_path(x: DesignMatrix, target: EstimatorTarget, penalties: Sequence[float]) -> Iterator[Coefficients]:
    """The coefficients for each of the penalties, which decrease.

    Minimizes the weighted mean loss + penalty / 2 |W|^2; intercepts are not penalized. The loss is the cross-entropy
    over classes, the sum of the binary cross-entropies of all labels, or half the squared error.
    """
    return _ridge_path(x, target, penalties) if target.space == "real" else logistic_path(x, target, penalties)


def _ridge_path(x: DesignMatrix, target: EstimatorTarget, penalties: Sequence[float]) -> Iterator[Coefficients]:
    """w = (X' W X + penalty I)^-1 X' W y with centered columns and targets, and weights that sum to 1."""
    weight = target.weight / target.weight.sum()
    mean, _ = x.moments(weight)
    level = weight @ target.values
    residual = weight[:, None] * (target.values - level)
    # The mean of the columns does not matter here, because the residuals sum to 0.
    right = x.transposed_dot(residual.astype(np.float32)).astype(np.float64)
    solve = _eigen_solver(x, weight, mean) if min(x.shape) <= MAX_EIGEN else _conjugate_solver(x, weight, mean)
    for weights in solve(right, penalties):
        yield np.concatenate([weights, (level - mean @ weights)[None]]).astype(np.float32)


_Solver = Callable[[np.ndarray, Sequence[float]], Iterator[np.ndarray]]


def _eigen_solver(x: DesignMatrix, weight: np.ndarray, mean: np.ndarray) -> _Solver:
    """All penalties by one eigendecomposition: of the covariance of the columns, or of the products of the rows."""
    if x.shape[1] <= x.shape[0]:
        value, vector = np.linalg.eigh(x.covariance(weight) - np.outer(mean, mean))
    else:
        # With rows R = sqrt(w) (x - mean), the covariance R'R has the eigenvectors R'U / sqrt(value).
        root = np.sqrt(weight)
        cross = x.dot(mean.astype(np.float32)[:, None]).astype(np.float64)
        product = (x.gram() - cross - cross.T + mean @ mean) * np.outer(root, root)
        value, left = np.linalg.eigh(product)
        kept = value > 1e-7 * max(float(value[-1]), 1e-30)
        value, left = value[kept], left[:, kept]
        side = root[:, None] * left / np.sqrt(value)
        vector = x.transposed_dot(side.astype(np.float32)) - np.outer(mean, side.sum(axis=0))

    def solve(right: np.ndarray, penalties: Sequence[float]) -> Iterator[np.ndarray]:
        turned = vector.T @ right
        for penalty in penalties:
            yield vector @ (turned / (value.clip(0) + penalty)[:, None])

    return solve


def _conjugate_solver(x: DesignMatrix, weight: np.ndarray, mean: np.ndarray) -> _Solver:
    """Conjugate gradients (Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems", 1952),
    warm-started from the penalty before, for many rows and many columns."""

    def multiply(vectors: np.ndarray, penalty: float) -> np.ndarray:
        product = x.dot(vectors.astype(np.float32)) - mean @ vectors
        product = weight[:, None] * product
        return x.transposed_dot(product.astype(np.float32)) - np.outer(mean, product.sum(axis=0)) + penalty * vectors

    def solve(right: np.ndarray, penalties: Sequence[float]) -> Iterator[np.ndarray]:
        weights = np.zeros_like(right)
        goal = 1e-6 * (right**2).sum(axis=0)
        for penalty in penalties:
            residual = right - multiply(weights, penalty)
            direction, size = residual.copy(), (residual**2).sum(axis=0)
            for _ in range(MAX_STEPS):
                if (size <= goal).all():
                    break
                product = multiply(direction, penalty)
                step = size / np.maximum((direction * product).sum(axis=0), 1e-300)
                weights += step * direction
                residual -= step * product
                size, before = (residual**2).sum(axis=0), size
                direction = residual + size / np.maximum(before, 1e-300) * direction
            yield weights

    return solve


def row_losses(raw: np.ndarray, target: EstimatorTarget) -> np.ndarray:
    """The losses of raw predictions `[rows, size]`: cross-entropies `[rows, 1]` of classes, `[rows, size]` of labels,
    or squared errors `[rows, size]`."""
    raw = raw.astype(np.float64)
    if target.space == "categorical":
        return np.asarray(logsumexp(raw, axis=1, keepdims=True) - raw[np.arange(len(raw)), target.values][:, None])
    if target.space == "binary":
        return np.asarray(np.logaddexp(0, raw) - raw * target.values)
    return np.asarray((raw - target.values) ** 2)
