"""Calibrated probabilities, and how sure a decision must be to be right as often as is wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

#: Bounds of a temperature: where every decision is right, none is the best one.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 10.0
#: Confidence of the lower bound of a precision.
PRECISION_CONFIDENCE_LEVEL = 0.95


def temperature(values: Tensor, target: Tensor) -> float:
    """The temperature T at which softmax(values / T) is most likely: argmin_T -sum_i log softmax(v_i / T)_{y_i} (Guo et
    al., "On Calibration of Modern Neural Networks", 2017, section 4.2). `values [rows, k]`, `target [rows]`."""
    from scipy.optimize import minimize_scalar

    values = values.double()

    def loss(log: float) -> float:
        return float(functional.cross_entropy(values / np.exp(log), target))

    found = minimize_scalar(loss, bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)), method="bounded")
    return float(np.exp(found.x))


def precision_lower_bound(correct: int, rows: int, level: float = PRECISION_CONFIDENCE_LEVEL) -> float:
    """The least share of which `right` of `rows` is still no surprise: the one-sided exact bound, the (1 - level)
    quantile of Beta(right, rows - right + 1) (Clopper & Pearson, "The use of confidence or fiducial limits illustrated
    in the case of the binomial", 1934)."""
    from scipy.special import betaincinv

    return float(betaincinv(correct, rows - correct + 1, 1 - level)) if correct else 0.0


def min_validation_rows(wanted: float) -> int:
    """How many rows, all of them right, show a share of at least `wanted`: the first n with (1 - LEVEL)^(1/n) >=
    `wanted`."""
    return int(np.ceil(np.log(1 - PRECISION_CONFIDENCE_LEVEL) / np.log(wanted)))


@dataclass(frozen=True)
class ConfidenceThreshold:
    """Decisions of at least `confidence` were right in `right` of `rows` validation rows."""

    confidence: float
    correct: int
    rows: int

    @property
    def precision(self) -> float:
        return self.correct / self.rows

    @property
    def precision_low(self) -> float:
        """The lower bound of the precision, `LEVEL` sure."""
        return precision_lower_bound(self.correct, self.rows)


def threshold(confidence: np.ndarray, correct: np.ndarray, wanted: float) -> ConfidenceThreshold | None:
    """The lowest threshold above which the lower bound of the precision is at least `wanted`; None if there is none.

    confidence: `[rows]`, the calibrated probability of each decision; right: `[rows]` bool, whether it was right
    """
    for least in np.unique(confidence):
        kept = confidence >= least
        found = ConfidenceThreshold(float(least), int(correct[kept].sum()), int(kept.sum()))
        if found.precision_low >= wanted:
            return found
    return None


def predict_with_confidence(values: Tensor, heat: float) -> tuple[np.ndarray, np.ndarray]:
    """The decided class of each row of `values [rows, k]` and its probability at temperature `heat`, `[rows]` each."""
    p, decided = (values.double() / heat).softmax(-1).max(-1)
    return decided.numpy(), p.numpy()


def class_tensor(value: np.ndarray) -> Tensor:
    """Class numbers as a tensor."""
    return torch.from_numpy(value.astype(np.int64))
