"""What text metrics are made of: texts beside their references, and scores that are prepared once.

A metric is a mean over rows, or a score of sums over rows. Both look at the texts once. What is left is a function of
the weights, so that a bootstrap of a thousand resamples tokenises nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType

import numpy as np

from polymodal.core.errors import DataError, MissingExtraError
from polymodal.metrics.base import Metric

#: Texts (object array `[rows]` of str or None) and truth (object array `[rows]` of tuples of str) -> numbers of rows.
RowNumbers = Callable[[np.ndarray, np.ndarray], np.ndarray]


def corpus_metric(
    name: str, statistics: RowNumbers, score: Callable[[np.ndarray], float], greater_is_better: bool = True
) -> Metric:
    """A metric of a whole corpus: `score` of the weighted sums `[k]` of the rows' `statistics [rows, k]`.

    NaN without a row of positive weight.
    """

    def prepared(distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        rows = np.asarray(statistics(distribution, truth), dtype=np.float64)
        return lambda weight: float(score(weight @ rows)) if weight.sum() > 0 else float("nan")

    return _metric(name, prepared, greater_is_better)


def row_mean_metric(name: str, scores: RowNumbers) -> Metric:
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


def pairs(distribution: np.ndarray, truth: np.ndarray) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The text and the references of every row; no answer (None) is the empty text.

    distribution: object array `[rows]` of str or None
    truth: object array `[rows]` of tuples of str

    Raises:
        DataError: a row has no reference, so that nothing can be said about its text.
    """
    for row, (text, references) in enumerate(zip(distribution, truth, strict=True)):
        if not references:
            raise DataError("there is no reference to compare the text with: leave this row out", row=row)
        yield text or "", references


def require_package(module: str, package: str, purpose: str) -> ModuleType:
    """`module` of `package`, for a metric that is named by `purpose`.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(package, "text", purpose) from error
