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


def expected_calibration_error(truth: list[Any], classes: list[Any], probabilities: np.ndarray) -> float:
    """The mean distance between confidence and accuracy over 15 bins of equal width (Guo, Pleiss, Sun and Weinberger,
    "On calibration of modern neural networks", 2017), weighted by the rows of each bin.

    probabilities: [rows, classes]
    """
    confidence = probabilities.max(1)
    best = [str(classes[index]) for index in probabilities.argmax(1)]
    is_right = np.array([one == str(other) for one, other in zip(best, truth, strict=True)], dtype=float)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    distances = [abs(np.sum(confidence[bins == one] - is_right[bins == one])) for one in range(BINS)]
    return float(np.sum(distances) / len(truth))
