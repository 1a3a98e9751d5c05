"""What a metric is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metric:
    """A score of predicted distributions against the truth.

    name: as in reports (`accuracy`, `macro_f1`, `rmse` ...)
    score: `(distribution [rows, k], truth [rows, ...], weight [rows]) -> float`; NaN where it is undefined (one class)
    greater_is_better: the direction
    """

    name: str
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    greater_is_better: bool = True
