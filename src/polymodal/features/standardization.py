"""Standardization of columns over training items."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

#: Items on which means and standard deviations are fitted; more do not change them much.
MAX_FIT_ITEMS = 2_000
#: Standardized values are clipped to this many standard deviations.
CLIP_STD = 10.0


class Standardization:
    """Columns with mean 0 and standard deviation 1 over training items, clipped to 10 standard deviations. A constant
    column becomes 0.

    Example:
        >>> scaling = Standardization(2)
        >>> scaling.fit(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32))
        >>> scaling(np.array([[4.0, 6.0]], np.float32))
        array([[2., 0.]], dtype=float32)
    """

    def __init__(self, columns: int) -> None:
        self.mean = np.zeros(columns, np.float32)
        self.scale = np.zeros(columns, np.float32)

    def __len__(self) -> int:
        return len(self.mean)

    def fit(self, values: np.ndarray) -> None:
        """Fit to the values `[items, columns]` of training items. Without any item, all columns become 0."""
        if not len(values):
            return
        mean, std = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
        constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-12)
        self.mean = mean.astype(np.float32)
        self.scale = np.where(constant, 0, 1 / np.where(constant, 1, std)).astype(np.float32)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The standardized values, float32."""
        return ((values.astype(np.float32) - self.mean) * self.scale).clip(-CLIP_STD, CLIP_STD)

    def save(self) -> dict[str, np.ndarray]:
        """The fitted state."""
        return {"mean": self.mean, "scale": self.scale}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the result of `save`.

        Raises:
            KeyError, ValueError: an array is missing, or is not one finite number for each column.
        """
        for name in ("mean", "scale"):
            array = state[name]
            if array.shape != self.mean.shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name!r} must be {len(self)} finite float32 numbers")
        self.mean, self.scale = state["mean"], state["scale"]


def spread(count: int, most: int = MAX_FIT_ITEMS) -> np.ndarray:
    """At most `most` of the numbers from 0 to `count`, evenly spread.

    Example:
        >>> spread(5, 3).tolist()
        [0, 2, 4]
    """
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)
