"""Bins of a reliability diagram and the expected calibration error."""

from __future__ import annotations

import math

import numpy as np

from polymodal.report.charts import ReliabilityBin

BINS = 10


def confidence_and_correctness(distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each prediction and whether it is correct, `[n]` each.

    With class numbers `truth [rows]`, there is one prediction per row: its most probable class. With 0/1 labels
    `truth [rows, k]`, there is one prediction per label and row. A cell of a timeline counts as labeled if the label
    covers at least half of it.
    """
    if truth.ndim == 1:
        return distribution.max(1, initial=0.0), distribution.argmax(1) == truth
    return distribution.ravel(), truth.ravel() >= 0.5


def reliability_bins(probability: np.ndarray, correct: np.ndarray) -> list[ReliabilityBin]:
    """The non-empty ones of ten bins of equal width over the confidence, with 95% Wilson score intervals.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    bin_of = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    bins = []
    for number in range(BINS):
        inside = bin_of == number
        size = int(inside.sum())
        if size:
            fraction = float(correct[inside].mean())
            low, high = _wilson(fraction, size)
            bins.append(ReliabilityBin(float(probability[inside].mean()), fraction, low, high, size))
    return bins


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Expected calibration error; NaN without predictions.

        ECE = sum_b n_b / n |accuracy_b - confidence_b|

    Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.observed - one.probability) for one in bins) / total if total else math.nan


def _wilson(fraction: float, size: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a fraction of `size` trials."""
    center = fraction + z * z / (2 * size)
    spread = z * math.sqrt(fraction * (1 - fraction) / size + z * z / (4 * size * size))
    norm = 1 + z * z / size
    return max(0.0, (center - spread) / norm), min(1.0, (center + spread) / norm)
