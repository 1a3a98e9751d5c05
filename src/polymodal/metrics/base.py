"""What a metric is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np


@dataclass(frozen=True)
class Metric:
    """A score of predicted distributions against the truth.

    name: as in reports (`accuracy`, `f1_macro`, `rmse` ...)
    score: `(distribution [rows, k], truth [rows, ...], weight [rows]) -> float`; NaN where it is undefined
    (one class) greater_is_better: the direction
    prepared: `(distribution, truth) -> (weight -> score)`, for a metric whose costly part (sorting) does not
        depend on the weights, so that a bootstrap does it once; None where there is no such part
    """

    name: str
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    greater_is_better: bool = True
    prepared: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], float]] | None = None

    def weighted(self, distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
        """The score of these rows as a function of their weights `[rows]`."""
        if self.prepared is not None:
            return self.prepared(distribution, truth)
        return partial(self.score, distribution, truth)
