"""Rows that differ from each other: from vectors of all rows, places in the order in which they are chosen.

Every function leaves out near-duplicates of what it chose (`distinct`), and gives fewer places than asked for only
where no other rows are left.
"""

from __future__ import annotations

import numpy as np

from polymodal.applications.active_learning.distinct import Distinct

#: Of so many candidates for each place is the most informative share kept before `informative_clusters`.
CANDIDATES = 10


def top(distinct: Distinct, scores: np.ndarray, count: int) -> list[int]:
    """The places of the `count` highest scores."""
    chosen: list[int] = []
    while len(chosen) < count and (place := distinct.best(scores)) is not None:
        distinct.choose(place)
        chosen.append(place)
    return chosen


def k_center(distinct: Distinct, labelled: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Greedy k-center: each next row is the one that is farthest from all labelled and chosen ones,
    argmax_i min_j |x_i - x_j|, so that no row is far from a labelled one (Sener & Savarese, "Active Learning for
    Convolutional Neural Networks: A Core-Set Approach", 2018, algorithm 1). Without labelled rows it begins with the
    row nearest to the centre.

    labelled: `[labelled rows, width]`

    Returns places and their distances; infinite for the first where nothing is labelled.
    """
    vectors = distinct.vectors
    nearest = _nearest(vectors, labelled.astype(np.float64))
    chosen: list[tuple[int, float]] = []
    while len(chosen) < count:
        scores = nearest
        if not len(labelled) and not chosen and len(vectors):
            scores = -((vectors - vectors.mean(0)) ** 2).sum(1)
        place = distinct.best(scores)
        if place is None:
            break
        chosen.append((place, float(nearest[place])))
        nearest = np.minimum(nearest, distinct.choose(place))
    return chosen


def _nearest(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The distance of each of `vectors [rows, width]` from the nearest of `others [n, width]`, `[rows]`; infinite where
    there are none."""
    from sklearn.metrics import pairwise_distances_argmin_min

    if not len(others) or not len(vectors):
        return np.full(len(vectors), np.inf)
    return np.asarray(pairwise_distances_argmin_min(vectors, others)[1])


def gradient_seeds(
    distinct: Distinct, errors: np.ndarray, count: int, draw: np.random.Generator
) -> list[tuple[int, float]]:
    """k-means++ seeds of gradient embeddings g_i = e_i (x) h_i: the gradient of the loss in the last layer if the
    model's own answer were right. Long gradients are unsure rows, different directions are different rows (Ash et al.,
    "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", 2020, algorithm 1). The first is the
    longest; each next is drawn with chances in proportion to min_j |g_i - g_j|^2 (Arthur & Vassilvitskii, 2007).

    errors: `[rows, k]`, e = p - onehot(the answer); h are the rows' vectors. The products are never written out:
        g_i . g_j = (e_i . e_j)(h_i . h_j).

    Returns places and their squared distances (of the first its squared length).
    """
    vectors = distinct.vectors
    length = (errors**2).sum(1) * (vectors**2).sum(1)
    first = distinct.best(length)
    if first is None:
        return []
    nearest = np.full(len(vectors), np.inf)
    chosen = [(first, float(length[first]))]
    while True:
        place = chosen[-1][0]
        inner = (errors @ errors[place]) * (vectors @ vectors[place])
        nearest = np.minimum(nearest, np.maximum(length + length[place] - 2 * inner, 0.0))
        distinct.choose(place)
        if len(chosen) == count or not distinct.open.any():
            return chosen
        chances = np.where(distinct.open, nearest, 0.0)
        if chances.sum() <= 0:  # all that is left has the gradient of a chosen row
            chances = distinct.open.astype(np.float64)
        place = int(draw.choice(len(chances), p=chances / chances.sum()))
        chosen.append((place, float(nearest[place])))


def informative_clusters(distinct: Distinct, scores: np.ndarray, count: int, seed: int) -> list[int]:
    """The most informative rows, one of each kind: the 10 `count` rows of the highest scores are put into `count`
    clusters by k-means in which each row weighs as much as its score, and the row nearest to each centre is chosen
    (Zhdanov, "Diverse mini-batch Active Learning", 2019). Places in the order of their scores.

    scores: `[rows]`, 0 or more; equal ones choose by diversity alone
    """
    from sklearn.cluster import KMeans

    order = np.argsort(-scores, kind="stable")
    kept = order[: CANDIDATES * count] if np.ptp(scores) > 0 else order
    if len(kept) > count:
        weight = np.maximum(scores[kept], 1e-6 * max(scores.max(), 1e-12))
        clusters = KMeans(count, n_init=1, random_state=seed).fit(distinct.vectors[kept], sample_weight=weight)
        chosen = []
        for number, centre in enumerate(clusters.cluster_centers_):
            among = kept[clusters.labels_ == number]
            place = distinct.best(-((distinct.vectors - centre) ** 2).sum(1), among)
            if place is not None:
                distinct.choose(place)
                chosen.append(place)
    else:
        chosen = []
    chosen += top(distinct, scores, count - len(chosen))
    return sorted(chosen, key=lambda place: -scores[place])
