"""Confidence thresholds that guarantee a precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Confidence level of the lower bound of a precision.
PRECISION_CONFIDENCE_LEVEL = 0.95


def precision_lower_bound(correct: int, rows: int, level: float = PRECISION_CONFIDENCE_LEVEL) -> float:
    """The lower confidence bound of a precision, given `correct` of `rows`: the one-sided exact bound, the (1 - level)
    quantile of Beta(correct, rows - correct + 1) (Clopper & Pearson, "The use of confidence or fiducial limits
    illustrated in the case of the binomial", 1934)."""
    from scipy.special import betaincinv

    return float(betaincinv(correct, rows - correct + 1, 1 - level)) if correct else 0.0


def min_validation_rows(min_precision: float) -> int:
    """The minimum number of rows that can guarantee a precision of `min_precision`, if all predictions are correct.

    The smallest n with (1 - PRECISION_CONFIDENCE_LEVEL)^(1/n) >= `min_precision`.
    """
    return int(np.ceil(np.log(1 - PRECISION_CONFIDENCE_LEVEL) / np.log(min_precision)))


@dataclass(frozen=True)
class ConfidenceThreshold:
    """Predictions with at least `confidence` are correct in `correct` of `rows` validation rows."""

    confidence: float
    correct: int
    rows: int

    @property
    def precision(self) -> float:
        """The fraction of correct predictions."""
        return self.correct / self.rows

    @property
    def precision_low(self) -> float:
        """The lower bound of the precision at `PRECISION_CONFIDENCE_LEVEL`."""
        return precision_lower_bound(self.correct, self.rows)


def find_threshold(confidence: np.ndarray, correct: np.ndarray, min_precision: float) -> ConfidenceThreshold | None:
    """The lowest threshold with a lower precision bound of at least `min_precision`; None if there is none.

    confidence: `[rows]`, the calibrated probability of each prediction
    correct: `[rows]` bool, whether the prediction is correct
    """
    for value in np.unique(confidence):
        kept = confidence >= value
        found = ConfidenceThreshold(float(value), int(correct[kept].sum()), int(kept.sum()))
        if found.precision_low >= min_precision:
            return found
    return None


def predict_with_confidence(values: Tensor, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Predicted class of each row of `values [rows, k]`, and its probability at `temperature`, `[rows]` each."""
    p, predicted = (values.double() / temperature).softmax(-1).max(-1)
    return predicted.numpy(), p.numpy()


def class_tensor(value: np.ndarray) -> Tensor:
    """Class indices as a tensor."""
    return torch.from_numpy(value.astype(np.int64))
