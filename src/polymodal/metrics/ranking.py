"""Ranking metrics, which do not depend on a threshold: ROC AUC and average precision.

Both take `distribution [rows, k]`, `truth` and `weight [rows]`. With class indices `truth [rows]`, two classes are
scored by the probability of the second one, and more classes one-vs-rest. With 0/1 labels `truth [rows, k]`, each label
is scored. The result is the unweighted mean over the classes for which the metric is defined; NaN if there is none.
Class indices of k and above are classes that the model does not know: their probability is 0 in every row.

Sorting does not depend on the weights: `prepared_roc_auc` and `prepared_average_precision` sort once and return the
score as a function of the weights, which makes a bootstrap about four times faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Weighted = Callable[[np.ndarray], float]


def roc_auc(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a random positive row is ranked above a random negative row; ties
    count half. Undefined for a class that no row or every row has.

    Example:
        >>> import numpy as np
        >>> positive = np.array([0.1, 0.4, 0.35, 0.8])
        >>> roc_auc(np.stack([1 - positive, positive], 1), np.array([0, 0, 1, 1]), np.ones(4))
        0.75
    """
    return prepared_roc_auc(distribution, truth)(weight)


def average_precision(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Average precision, sum_n (R_n - R_{n-1}) P_n over the distinct thresholds n in descending order; the mean over
    classes is known as mAP. Undefined for a class that no row has."""
    return prepared_average_precision(distribution, truth)(weight)


def prepared_roc_auc(distribution: np.ndarray, truth: np.ndarray) -> Weighted:
    """ROC AUC of these rows as a function of their weights `[rows]`."""
    return _over_classes(_binary_roc_auc, distribution, truth)


def prepared_average_precision(distribution: np.ndarray, truth: np.ndarray) -> Weighted:
    """Average precision of these rows as a function of their weights `[rows]`."""
    return _over_classes(_binary_average_precision, distribution, truth)


@dataclass(frozen=True)
class _Ranking:
    """Ranking of the rows by the score of one class, and the positions of its positives.

    order: `[rows]` row indices in descending order of the score
    positive: `[positives]` positions of the positives in the order
    start, stop: `[positives]` positions with the same score as each positive: start <= position < stop
    before_start, before_stop: `[positives]` number of positives before these two positions
    """

    order: np.ndarray
    positive: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    before_start: np.ndarray
    before_stop: np.ndarray


def _rank(score: np.ndarray, positive: np.ndarray) -> _Ranking:
    order = (-score).argsort().astype(np.int32)
    descending = score[order]
    new = np.append(True, descending[1:] != descending[:-1])
    bounds = np.append(np.flatnonzero(new), len(score))
    position = np.flatnonzero(positive[order])
    tie = new.cumsum()[position] - 1
    start, stop = bounds[tie], bounds[tie + 1]
    return _Ranking(order, position, start, stop, position.searchsorted(start), position.searchsorted(stop))


def _over_classes(
    score: Callable[[_Ranking, np.ndarray], float], distribution: np.ndarray, truth: np.ndarray
) -> Weighted:
    if not len(truth):
        return lambda weight: float("nan")
    if truth.ndim == 2:
        rankings = [_rank(distribution[:, c], truth[:, c] > 0) for c in range(truth.shape[1])]
    else:
        known = distribution.shape[1]
        classes = [1] if known == 2 and truth.max() < known else np.unique(truth)
        rankings = [_rank(distribution[:, c] if c < known else np.zeros(len(truth)), truth == c) for c in classes]

    def weighted(weight: np.ndarray) -> float:
        scores = np.array([score(ranking, weight) for ranking in rankings])
        defined = scores[~np.isnan(scores)]
        return float(defined.mean()) if len(defined) else float("nan")

    return weighted


def _cumulative(weight: np.ndarray) -> np.ndarray:
    """Cumulative weight before each position, and of all rows last: `[n + 1]`."""
    total = np.zeros(len(weight) + 1)
    np.cumsum(weight, out=total[1:])
    return total


def _binary_roc_auc(ranking: _Ranking, weight: np.ndarray) -> float:
    ordered = weight[ranking.order]
    total, positives = _cumulative(ordered), _cumulative(ordered[ranking.positive])
    positive, negative = positives[-1], total[-1] - positives[-1]
    if positive <= 0 or negative <= 0:
        return float("nan")
    higher = total[ranking.start] - positives[ranking.before_start]
    higher_or_tied = total[ranking.stop] - positives[ranking.before_stop]
    lower = negative - (higher + higher_or_tied) / 2
    return float(ordered[ranking.positive] @ lower / (positive * negative))


def _binary_average_precision(ranking: _Ranking, weight: np.ndarray) -> float:
    ordered = weight[ranking.order]
    total, positives = _cumulative(ordered), _cumulative(ordered[ranking.positive])
    if positives[-1] <= 0:
        return float("nan")
    reached = total[ranking.stop]
    precision = positives[ranking.before_stop] / np.where(reached > 0, reached, 1)
    return float(ordered[ranking.positive] @ precision / positives[-1])
