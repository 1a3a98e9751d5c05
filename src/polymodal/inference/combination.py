"""Weighted combination of the raw predictions of the members of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit, log_softmax, logit

from polymodal.core.types import Space
from polymodal.nn.fusion import decision_rules

#: Probabilities are kept this far from 0 and 1 before a logarithm.
TINY = 1e-12


class Calibration(NamedTuple):
    """The factor of raw predictions: `scale`, times the standard deviation of the values of a row to the power `power`.

    scale: 1 / temperature, or the shrinkage of standardized numbers towards their mean
    power: of classes, how the temperature depends on the row, as in parameterized temperature scaling (Tomani,
        Cremers and Buettner, "Parameterized Temperature Scaling for Boosting the Expressive Power in Post-Hoc
        Uncertainty Calibration", 2022); 0: it does not. Above -1, a larger spread gives a larger confidence.

    Example:
        >>> Calibration(2.0, -0.5).apply(np.array([[1.0, -1.0], [4.0, -4.0]])).tolist()
        [[2.0, -2.0], [4.0, -4.0]]
    """

    scale: float = 1.0
    power: float = 0.0

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The calibrated values of raw predictions `[rows, k]`."""
        if not self.power:
            return np.asarray(self.scale * values)
        spread = np.maximum(values.astype(np.float64).std(axis=1, keepdims=True), TINY)
        return np.asarray(self.scale * spread**self.power * values)


NO_CALIBRATION = Calibration()


@dataclass(frozen=True)
class OutputCombination:
    """How the members predict one output together.

    weights: by member, positive; they sum to 1
    calibrations: by member, before the average
    calibration: of the average
    """

    weights: dict[str, float]
    calibrations: dict[str, Calibration]
    calibration: Calibration = NO_CALIBRATION

    def combine(self, values: Mapping[str, np.ndarray], space: Space) -> np.ndarray:
        """The raw prediction `[rows, k]` float32 of the weighted members.

        Probabilities of classes or labels are averaged (a linear opinion pool: Stone, "The opinion pool", 1961), and
        numbers on the scale of the task.

        values: by member, raw predictions `[rows, k]`
        """
        members = [self.calibrations[name].apply(values[name]) for name in self.weights]
        return self.calibration.apply(average(members, list(self.weights.values()), space)).astype(np.float32)


def average(members: Sequence[np.ndarray], weights: Sequence[float], space: Space) -> np.ndarray:
    """The weighted average of raw predictions as a raw prediction `[rows, k]`, in float64.

    Example:
        >>> average([np.array([[0.0]]), np.array([[2.0]])], [0.5, 0.5], "real")
        array([[1.]])
    """
    expert = torch.from_numpy(np.stack(members, axis=1).astype(np.float64))
    present = torch.ones(expert.shape[:2], dtype=torch.bool)
    return decision_rules.average(expert, present, space, torch.tensor(weights, dtype=torch.float64)).numpy()


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
