"""Regression metrics: RMSE, MAE, R2 and Spearman's rank correlation.

Each takes predictions `[rows, k]`, `truth [rows, k]` (both in the units of the target) and `weight [rows]`, and is
averaged over the k targets. It is NaN if it is undefined for one of them.
"""

from __future__ import annotations

import numpy as np


def rmse(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Root mean squared error, in the unit of the target.

    Example:
        >>> import numpy as np
        >>> rmse(np.array([[1.0], [5.0]]), np.array([[1.0], [3.0]]), np.ones(2)) ** 2
        2.0000000000000004
    """
    return float(np.sqrt(_average((distribution - truth) ** 2, weight)).mean())


def mae(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Mean absolute error, in the unit of the target."""
    return float(_average(np.abs(distribution - truth), weight).mean())


def r2(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Coefficient of determination, 1 - sum (y - p)^2 / sum (y - mean y)^2; undefined if the truth is constant."""
    real = weight > 0
    distribution, truth, weight = distribution[real], truth[real], weight[real]
    if _any_constant(truth):
        return float("nan")
    error = weight @ (distribution - truth) ** 2
    spread = weight @ (truth - _average(truth, weight)) ** 2
    return float((1 - error / spread).mean())


def spearman(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Spearman's rank correlation. Tied values share their mean rank; a row of weight w counts as w rows. Undefined if
    the truth or the prediction is constant."""
    real = weight > 0
    distribution, truth, weight = distribution[real], truth[real], weight[real]
    if _any_constant(truth) or _any_constant(distribution):
        return float("nan")
    return float(np.mean([_rank_correlation(*pair, weight) for pair in zip(distribution.T, truth.T, strict=True)]))


def _average(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean over rows, `[k]`; NaN without rows."""
    total = weight.sum()
    return weight @ values / total if total > 0 else np.full(values.shape[1], np.nan)


def _any_constant(values: np.ndarray) -> bool:
    return len(values) == 0 or bool((values == values[0]).all(0).any())


def _rank_correlation(left: np.ndarray, right: np.ndarray, weight: np.ndarray) -> float:
    a, b = _ranks(left, weight), _ranks(right, weight)
    a, b = a - weight @ a / weight.sum(), b - weight @ b / weight.sum()
    return float(weight @ (a * b) / np.sqrt((weight @ a**2) * (weight @ b**2)))


def _ranks(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Midrank of each value, `[rows]`: middle of the cumulative weight that it covers in ascending order."""
    order = values.argsort()
    ordered = values[order]
    new = np.append(True, ordered[1:] != ordered[:-1])
    upto = weight[order].cumsum()[np.append(new[1:], True)]
    middle = (upto + np.append(0, upto[:-1])) / 2
    ranks = np.empty(len(values))
    ranks[order] = middle[new.cumsum() - 1]
    return ranks
