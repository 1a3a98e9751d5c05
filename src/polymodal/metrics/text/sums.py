"""The two shapes of a text metric: a mean over rows, and a score of sums over rows.

Both look at the texts once. What is left is a function of the weights, so that a bootstrap of a thousand resamples
tokenises nothing again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polymodal.metrics.base import Metric

#: Texts (object array `[rows]` of str or None) and truth (object array `[rows]` of tuples of str) -> numbers of rows.
RowNumbers = Callable[[np.ndarray, np.ndarray], np.ndarray]


def score_of_sums(
    name: str, statistics: RowNumbers, score: Callable[[np.ndarray], float], greater_is_better: bool = True
) -> Metric:
    """A metric of a whole corpus: `score` of the weighted sums `[k]` of the rows' `statistics [rows, k]`.

    NaN without a row of positive weight.
    """

    def prepared(distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        rows = np.asarray(statistics(distribution, truth), dtype=np.float64)
        return lambda weight: float(score(weight @ rows)) if weight.sum() > 0 else float("nan")

    return _metric(name, prepared, greater_is_better)


def mean_of_rows(name: str, scores: RowNumbers) -> Metric:
    """A metric that is the weighted mean of the rows' `scores [rows]`; NaN without a row of positive weight."""

    def prepared(distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        rows = np.asarray(scores(distribution, truth), dtype=np.float64)
        return lambda weight: float(weight @ rows / weight.sum()) if weight.sum() > 0 else float("nan")

    return _metric(name, prepared, greater_is_better=True)


def _metric(
    name: str,
    prepared: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], float]],
    greater_is_better: bool,
) -> Metric:
    def score(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
        return prepared(distribution, truth)(weight)

    return Metric(name, score, greater_is_better, prepared)
