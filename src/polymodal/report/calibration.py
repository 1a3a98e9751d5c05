"""Do stated probabilities come true? Bins of a reliability chart and the expected calibration error."""

from __future__ import annotations

import math

import numpy as np

from polymodal.report.charts import ReliabilityBin

BINS = 10


def confidence_and_correctness(distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each decision and whether it came true, `[n]` each.

    With class numbers `truth [rows]`, a decision is a row's most probable class; with 0/1 labels
    `truth [rows, k]`, every label of every row is one; a cell of a timeline has a label that covers half of it.
    """
    if truth.ndim == 1:
        return distribution.max(1, initial=0.0), distribution.argmax(1) == truth
    return distribution.ravel(), truth.ravel() >= 0.5


def reliability_bins(probability: np.ndarray, happened: np.ndarray) -> list[ReliabilityBin]:
    """Ten bins of equal width over the probability, without the empty ones; intervals of 95 % by Wilson's
    formula ("Probable inference, the law of succession, and statistical inference", 1927)."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    found = []
    for number in range(BINS):
        inside = place == number
        size = int(inside.sum())
        if size:
            share = float(happened[inside].mean())
            low, high = _wilson(share, size)
            found.append(ReliabilityBin(float(probability[inside].mean()), share, low, high, size))
    return found


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """The mean over decisions of |share that came true - mean probability| of their bin (Guo et al., "On
    Calibration of Modern Neural Networks", 2017); NaN without decisions."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.observed - one.probability) for one in bins) / total if total else math.nan


def _wilson(share: float, size: int, z: float = 1.96) -> tuple[float, float]:
    middle = share + z * z / (2 * size)
    spread = z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    whole = 1 + z * z / size
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)
