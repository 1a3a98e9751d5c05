"""The `Metric` class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

#: Bounds of a fraction, and of an error that has no upper bound.
UNIT, POSITIVE = (0.0, 1.0), (0.0, math.inf)


@dataclass(frozen=True)
class Metric:
    """A metric of predicted distributions against the truth.

    name: name in reports (`accuracy`, `f1_macro`, `rmse` ...)
    score: `(distribution [rows, k], truth [rows, ...], weight [rows]) -> float`; NaN if undefined, such as with a
        single class
    greater_is_better: direction of the metric
    prepared: `(distribution, truth) -> (weight -> score)`, for a metric whose expensive part (sorting) does not depend
        on the weights, so that a bootstrap computes it once; None without such a part
    bounds: the smallest and the largest possible score; an interval does not leave them

    Example:
        >>> import numpy as np
        >>> from polymodal.metrics.classification import accuracy
        >>> metric = Metric("accuracy", accuracy, bounds=UNIT)
        >>> distribution, truth = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]]), np.array([0, 1, 1])
        >>> round(metric.score(distribution, truth, np.ones(3)), 3)
        0.667
    """

    name: str
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    greater_is_better: bool = True
    prepared: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], float]] | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def weighted(self, distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        """Score of these rows as a function of their weights `[rows]`."""
        if self.prepared is not None:
            return self.prepared(distribution, truth)
        return partial(self.score, distribution, truth)
