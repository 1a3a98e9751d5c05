"""Scores of how well probabilities rank the rows, whatever the threshold: AUROC and average precision.

Both take `distribution [rows, k]`, `truth` and `weight [rows]`. With class numbers `truth [rows]`, two
classes are scored by the second one's probability and more classes one against the rest; with 0/1 labels
`truth [rows, k]`, each label is scored. The result is the plain mean over the classes for which the score is
defined, NaN if there is none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def auroc(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a random positive row is ranked above a random negative one
    (ties count half). Undefined for a class that all rows have or no row has."""
    return _over_classes(_binary_auroc, distribution, truth, weight)


def average_precision(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Average precision, sum_n (R_n - R_{n-1}) P_n over the distinct thresholds n in falling order; the mean
    over labels is known as mAP. Undefined for a class that no row has."""
    return _over_classes(_binary_average_precision, distribution, truth, weight)


def _over_classes(
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], float],
    distribution: np.ndarray,
    truth: np.ndarray,
    weight: np.ndarray,
) -> float:
    real = weight > 0
    distribution, truth, weight = distribution[real], truth[real], weight[real]
    if truth.ndim == 2:
        scores = [score(distribution[:, c], truth[:, c] > 0, weight) for c in range(truth.shape[1])]
    else:
        classes = [1] if distribution.shape[1] == 2 else range(distribution.shape[1])
        scores = [score(distribution[:, c], truth == c, weight) for c in classes]
    defined = [value for value in scores if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _cumulated(rank: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives up to and including each distinct value of `rank`, in rising
    order."""
    order = rank.argsort()
    sorted_rank, sorted_weight, sorted_positive = rank[order], weight[order], positive[order]
    last = np.append(np.flatnonzero(sorted_rank[1:] != sorted_rank[:-1]), len(rank) - 1)
    everything = sorted_weight.cumsum()[last]
    positives = (sorted_weight * sorted_positive).cumsum()[last]
    return positives, everything - positives


def _binary_auroc(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    if positive.all() or not positive.any():
        return float("nan")
    positives, negatives = _cumulated(-score, positive, weight)
    area = np.diff(negatives, prepend=0) @ (positives + np.append(0, positives[:-1])) / 2
    return float(area / (positives[-1] * negatives[-1]))


def _binary_average_precision(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    if not positive.any():
        return float("nan")
    positives, negatives = _cumulated(-score, positive, weight)
    return float(np.diff(positives, prepend=0) @ (positives / (positives + negatives)) / positives[-1])
