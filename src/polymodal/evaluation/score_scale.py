"""The scale on which the sampling distribution of a score is nearly normal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoreScale:
    """The transformation g of scores between `lower` and `upper`:

        two bounds a and b   g(x) = log((x - a) / (b - x)), such as the logit of an accuracy
        a lower bound a      g(x) = log(x - a), such as the logarithm of an RMSE
        an upper bound b     g(x) = -log(b - x), such as -log(1 - R2)
        no bound             g(x) = x

    An interval that is symmetric on this scale is asymmetric in the score, and stays within the bounds.

    Example:
        >>> scale = ScoreScale(0.0, 1.0)
        >>> round(float(scale.backward(scale.forward(np.array(0.75)))), 6)
        0.75
    """

    lower: float
    upper: float

    @property
    def has_two_bounds(self) -> bool:
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def has_no_bound(self) -> bool:
        return not (math.isfinite(self.lower) or math.isfinite(self.upper))

    def is_inside(self, scores: np.ndarray) -> np.ndarray:
        """Whether scores are between the bounds, and so have a finite place on the scale."""
        return (scores > self.lower) & (scores < self.upper)

    def forward(self, scores: np.ndarray) -> np.ndarray:
        """g of scores that are inside."""
        found = np.zeros_like(scores, dtype=np.float64)
        if math.isfinite(self.lower):
            found = found + np.log(scores - self.lower)
        if math.isfinite(self.upper):
            found = found - np.log(self.upper - scores)
        return scores.astype(np.float64) if self.has_no_bound else found

    def backward(self, values: np.ndarray) -> np.ndarray:
        """The scores with these places on the scale."""
        if self.has_no_bound:
            return values
        with np.errstate(over="ignore"):  # exp of a large number is infinite, and its place is a bound
            if self.has_two_bounds:
                return self.lower + (self.upper - self.lower) / (1 + np.exp(-values))
            return self.lower + np.exp(values) if math.isfinite(self.lower) else self.upper - np.exp(-values)

    def slope(self, score: float) -> float:
        """The derivative of g at a score that is inside."""
        if self.has_no_bound:
            return 1.0
        return sum(1 / abs(score - bound) for bound in (self.lower, self.upper) if math.isfinite(bound))
