"""Weighted combination of the raw predictions of the members of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_softmax, logit

from polymodal.core.types import Space

#: Probabilities are kept this far from 0 and 1 before a logarithm.
TINY = 1e-12


@dataclass(frozen=True)
class OutputCombination:
    """How the members predict one output together.

    weights: by member, positive; they sum to 1
    scales: by member, the factor of its raw predictions before the average: 1 / temperature, or the shrinkage of
        standardized numbers towards their mean
    scale: the factor of the average
    """

    weights: dict[str, float]
    scales: dict[str, float]
    scale: float = 1.0

    def combine(self, values: Mapping[str, np.ndarray], space: Space) -> np.ndarray:
        """The raw prediction `[rows, k]` float32 of the weighted members.

        Probabilities of classes or labels are averaged (a linear opinion pool: Stone, "The opinion pool", 1961), and
        numbers on the scale of the task.

        values: by member, raw predictions `[rows, k]`
        """
        members = [self.scales[name] * values[name] for name in self.weights]
        return (self.scale * average(members, list(self.weights.values()), space)).astype(np.float32)


def average(members: Sequence[np.ndarray], weights: Sequence[float], space: Space) -> np.ndarray:
    """The weighted average of raw predictions as a raw prediction `[rows, k]`.

    Example:
        >>> average([np.array([[0.0]]), np.array([[2.0]])], [0.5, 0.5], "real")
        array([[1.]])
    """
    probabilities = [to_probabilities(one, space) for one in members]
    return from_probabilities(sum(w * p for w, p in zip(weights, probabilities, strict=True)), space)  # type: ignore[arg-type]


def to_probabilities(values: np.ndarray, space: Space) -> np.ndarray:
    """Raw predictions `[rows, k]` as probabilities float64; numbers stay as they are."""
    values = values.astype(np.float64)
    if space == "categorical":
        return np.exp(log_softmax(values, axis=-1))
    return np.asarray(expit(values)) if space == "binary" else values


def from_probabilities(probabilities: np.ndarray, space: Space) -> np.ndarray:
    """The inverse of `to_probabilities`."""
    if space == "categorical":
        return np.asarray(np.log(np.maximum(probabilities, TINY)))
    return np.asarray(logit(np.clip(probabilities, TINY, 1 - TINY))) if space == "binary" else probabilities
