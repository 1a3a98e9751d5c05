"""Building blocks of text metrics: texts with their references, and scores with a prepared part.

A metric is a mean over rows, or a function of sums over rows. Both read the texts once. The rest is a function of the
weights, so that a bootstrap does not tokenize again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType

import numpy as np

from polymodal.core.errors import DataError, MissingExtraError
from polymodal.metrics.base import UNIT, Metric

#: Texts (object array `[rows]` of str or None) and truth (object array `[rows]` of tuples of str) -> numbers of rows.
RowNumbers = Callable[[np.ndarray, np.ndarray], np.ndarray]


def corpus_metric(
    name: str,
    statistics: RowNumbers,
    score: Callable[[np.ndarray], float],
    greater_is_better: bool = True,
    bounds: tuple[float, float] = UNIT,
) -> Metric:
    """A corpus metric: `score` of the weighted sums `[k]` of the `statistics [rows, k]` of the rows.

    NaN without a row of positive weight.
    """

    def prepared(distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        rows = np.asarray(statistics(distribution, truth), dtype=np.float64)
        return lambda weight: float(score(weight @ rows)) if weight.sum() > 0 else float("nan")

    return _metric(name, prepared, greater_is_better, bounds)


def row_mean_metric(name: str, scores: RowNumbers, bounds: tuple[float, float] = UNIT) -> Metric:
    """A metric that is the weighted mean of the `scores [rows]` of the rows; NaN without a row of positive weight."""

    def prepared(distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        rows = np.asarray(scores(distribution, truth), dtype=np.float64)
        return lambda weight: float(weight @ rows / weight.sum()) if weight.sum() > 0 else float("nan")

    return _metric(name, prepared, True, bounds)


def _metric(
    name: str,
    prepared: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], float]],
    greater_is_better: bool,
    bounds: tuple[float, float],
) -> Metric:
    def score(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
        return prepared(distribution, truth)(weight)

    return Metric(name, score, greater_is_better, prepared, bounds)


def pairs(distribution: np.ndarray, truth: np.ndarray) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Text and references of every row; None is scored as the empty text.

    distribution: object array `[rows]` of str or None
    truth: object array `[rows]` of tuples of str

    Raises:
        DataError: a row has no reference.
    """
    for row, (text, references) in enumerate(zip(distribution, truth, strict=True)):
        if not references:
            raise DataError("the row has no reference text; remove it", row=row)
        yield text or "", references


def require_package(module: str, package: str, purpose: str) -> ModuleType:
    """Import `module` of `package`; `purpose` names the metric in the error.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(package, "text", purpose) from error
