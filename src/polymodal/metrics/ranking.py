"""Scores of how well probabilities rank the rows, whatever the threshold: AUROC and average precision.

Both take `distribution [rows, k]`, `truth` and `weight [rows]`. With class numbers `truth [rows]`, two
classes are scored by the second one's probability and more classes one against the rest; with 0/1 labels
`truth [rows, k]`, each label is scored. The result is the plain mean over the classes for which the score is
defined, NaN if there is none.

Sorting does not depend on the weights: `prepared_roc_auc` and `prepared_average_precision` sort once and return
the score as a function of the weights, which makes a bootstrap some four times faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Weighted = Callable[[np.ndarray], float]


def roc_auc(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a random positive row is ranked above a random negative one
    (ties count half). Undefined for a class that all rows have or no row has."""
    return prepared_roc_auc(distribution, truth)(weight)


def average_precision(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Average precision, sum_n (R_n - R_{n-1}) P_n over the distinct thresholds n in falling order; the mean
    over labels is known as mAP. Undefined for a class that no row has."""
    return prepared_average_precision(distribution, truth)(weight)


def prepared_roc_auc(distribution: np.ndarray, truth: np.ndarray) -> Weighted:
    """AUROC of these rows as a function of their weights `[rows]`."""
    return _over_classes(_binary_roc_auc, distribution, truth)


def prepared_average_precision(distribution: np.ndarray, truth: np.ndarray) -> Weighted:
    """Average precision of these rows as a function of their weights `[rows]`."""
    return _over_classes(_binary_average_precision, distribution, truth)


@dataclass(frozen=True)
class _Ranking:
    """Rows in falling order of one class's score, and where its positives stand in it.

    order: `[rows]` row numbers
    positive: `[positives]` places of the positives in the order
    start, stop: `[positives]` the places that share the score of each positive: start <= place < stop
    before_start, before_stop: `[positives]` how many positives stand before those two places
    """

    order: np.ndarray
    positive: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    before_start: np.ndarray
    before_stop: np.ndarray


def _rank(score: np.ndarray, positive: np.ndarray) -> _Ranking:
    order = (-score).argsort().astype(np.int32)
    falling = score[order]
    new = np.append(True, falling[1:] != falling[:-1])
    bounds = np.append(np.flatnonzero(new), len(score))
    place = np.flatnonzero(positive[order])
    tie = new.cumsum()[place] - 1
    start, stop = bounds[tie], bounds[tie + 1]
    return _Ranking(order, place, start, stop, place.searchsorted(start), place.searchsorted(stop))


def _over_classes(
    score: Callable[[_Ranking, np.ndarray], float], distribution: np.ndarray, truth: np.ndarray
) -> Weighted:
    if not len(truth):
        return lambda weight: float("nan")
    if truth.ndim == 2:
        rankings = [_rank(distribution[:, c], truth[:, c] > 0) for c in range(truth.shape[1])]
    else:
        classes = [1] if distribution.shape[1] == 2 else np.unique(truth)
        rankings = [_rank(distribution[:, c], truth == c) for c in classes]

    def weighted(weight: np.ndarray) -> float:
        scores = np.array([score(ranking, weight) for ranking in rankings])
        defined = scores[~np.isnan(scores)]
        return float(defined.mean()) if len(defined) else float("nan")

    return weighted


def _upto(weight: np.ndarray) -> np.ndarray:
    """Summed weight before each place and, last, of all: `[n + 1]`."""
    total = np.zeros(len(weight) + 1)
    np.cumsum(weight, out=total[1:])
    return total


def _binary_roc_auc(ranking: _Ranking, weight: np.ndarray) -> float:
    ordered = weight[ranking.order]
    everything, positives = _upto(ordered), _upto(ordered[ranking.positive])
    positive, negative = positives[-1], everything[-1] - positives[-1]
    if positive <= 0 or negative <= 0:
        return float("nan")
    higher = everything[ranking.start] - positives[ranking.before_start]
    higher_or_tied = everything[ranking.stop] - positives[ranking.before_stop]
    lower = negative - (higher + higher_or_tied) / 2
    return float(ordered[ranking.positive] @ lower / (positive * negative))


def _binary_average_precision(ranking: _Ranking, weight: np.ndarray) -> float:
    ordered = weight[ranking.order]
    everything, positives = _upto(ordered), _upto(ordered[ranking.positive])
    if positives[-1] <= 0:
        return float("nan")
    reached = everything[ranking.stop]
    precision = positives[ranking.before_stop] / np.where(reached > 0, reached, 1)
    return float(ordered[ranking.positive] @ precision / positives[-1])
