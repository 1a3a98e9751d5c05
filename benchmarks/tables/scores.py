"""Scores of predictions: the metric of a set, and the calibration of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score

BINS = 15


def score(metric: str, truth: list[Any], predicted: list[Any]) -> float:
    """Accuracy, balanced accuracy or R2; larger is better.

    Balanced accuracy averages the recall of the classes that occur in `truth`.
    """
    if metric == "r2":
        return float(r2_score(truth, predicted))
    texts = [str(one) for one in truth], [str(one) for one in predicted]
    if metric == "accuracy":
        return float(accuracy_score(*texts))
    recalls = [np.mean([b == one for a, b in zip(*texts, strict=True) if a == one]) for one in set(texts[0])]
    return float(np.mean(recalls))


def calibration_bins(truth: list[Any], classes: list[Any], probabilities: np.ndarray) -> list[list[float]]:
    """Of each of 15 bins of equal width of the confidence: its rows, and the sums of their confidence, of their right
    answers, and of the variance of an answer that is right as often as its confidence says.

    probabilities: [rows, classes]
    """
    confidence = probabilities.max(1)
    best = [str(classes[index]) for index in probabilities.argmax(1)]
    is_right = np.array([one == str(other) for one, other in zip(best, truth, strict=True)], dtype=float)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    facts = np.stack([np.ones_like(confidence), confidence, is_right, confidence * (1 - confidence)])  # [4, rows]
    return [[float(one) for one in facts[:, bins == number].sum(1)] for number in range(BINS)]


def expected_calibration_error(bins: list[list[float]]) -> float:
    """The mean distance between confidence and accuracy over the bins (Guo, Pleiss, Sun and Weinberger, "On
    calibration of modern neural networks", 2017), weighted by the rows of each bin."""
    return sum(abs(confidence - right) for _, confidence, right, _ in bins) / sum(rows for rows, *_ in bins)


def chance_calibration_error(bins: list[list[float]]) -> float:
    """The calibration error that perfect probabilities have on as many rows by chance: the mean absolute value of a
    normal number with the variance of each bin."""
    expected = sum((2 * variance / np.pi) ** 0.5 for *_, variance in bins)
    return float(expected / sum(rows for rows, *_ in bins))
