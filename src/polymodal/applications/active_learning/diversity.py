"""Diverse batches: choose rows that differ from each other, by their feature vectors.

Every function returns row indices in the order in which they were chosen. It skips near-duplicates of chosen rows
(`DuplicateFilter`), and returns fewer indices than requested only if no other rows are left.
"""

from __future__ import annotations

import numpy as np

from polymodal.applications.active_learning.duplicate_filter import DuplicateFilter

#: `weighted_k_means` keeps this many of the most informative rows for every row that it chooses.
CANDIDATES_PER_ROW = 10


def top_scores(duplicate_filter: DuplicateFilter, scores: np.ndarray, count: int) -> list[int]:
    """The indices of the `count` rows with the highest scores."""
    chosen: list[int] = []
    while len(chosen) < count and (index := duplicate_filter.best_open(scores)) is not None:
        duplicate_filter.choose(index)
        chosen.append(index)
    return chosen


def k_center_greedy(duplicate_filter: DuplicateFilter, labeled: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Greedy k-center (core-set): repeatedly choose the row that is farthest from all labeled and chosen rows,
    argmax_i min_j |x_i - x_j|, so that no row is far from a labeled row (Sener & Savarese, "Active Learning for
    Convolutional Neural Networks: A Core-Set Approach", 2018, algorithm 1). Without labeled rows, the first choice is
    the row nearest to the mean.

    labeled: `[labeled rows, width]`

    Returns row indices and their distances. The first distance is infinite if there are no labeled rows.
    """
    features = duplicate_filter.features
    nearest = _nearest(features, labeled.astype(np.float64))
    chosen: list[tuple[int, float]] = []
    while len(chosen) < count:
        scores = nearest
        if not len(labeled) and not chosen and len(features):
            scores = -((features - features.mean(0)) ** 2).sum(1)
        index = duplicate_filter.best_open(scores)
        if index is None:
            break
        chosen.append((index, float(nearest[index])))
        nearest = np.minimum(nearest, duplicate_filter.choose(index))
    return chosen


def _nearest(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The distance `[rows]` of each of `features [rows, width]` to the nearest of `others [n, width]`; infinite if
    there are no others."""
    from sklearn.metrics import pairwise_distances_argmin_min

    if not len(others) or not len(features):
        return np.full(len(features), np.inf)
    return np.asarray(pairwise_distances_argmin_min(features, others)[1])


def badge_seeds(
    duplicate_filter: DuplicateFilter, errors: np.ndarray, count: int, generator: np.random.Generator
) -> list[tuple[int, float]]:
    """BADGE: k-means++ seeds of the gradient embeddings g_i = e_i (x) h_i, the gradient of the loss in the last layer
    with the predicted label as the target. Uncertain rows have long gradients, and different rows have different
    directions (Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", 2020, algorithm
    1). The first row has the longest gradient. Each further row is drawn with probability proportional to
    min_j |g_i - g_j|^2 (Arthur & Vassilvitskii, 2007).

    errors: `[rows, k]`, e = p - onehot(predicted label); h are the features of the rows. The outer products are not
        materialized: g_i . g_j = (e_i . e_j)(h_i . h_j).

    Returns row indices and their squared distances (for the first row, the squared length of its gradient).
    """
    features = duplicate_filter.features
    length = (errors**2).sum(1) * (features**2).sum(1)
    first = duplicate_filter.best_open(length)
    if first is None:
        return []
    nearest = np.full(len(features), np.inf)
    chosen = [(first, float(length[first]))]
    while True:
        index = chosen[-1][0]
        inner = (errors @ errors[index]) * (features @ features[index])
        nearest = np.minimum(nearest, np.maximum(length + length[index] - 2 * inner, 0.0))
        duplicate_filter.choose(index)
        if len(chosen) == count or not duplicate_filter.is_open.any():
            return chosen
        probabilities = np.where(duplicate_filter.is_open, nearest, 0.0)
        if probabilities.sum() <= 0:  # all open rows have the same gradient as a chosen row
            probabilities = duplicate_filter.is_open.astype(np.float64)
        index = int(generator.choice(len(probabilities), p=probabilities / probabilities.sum()))
        chosen.append((index, float(nearest[index])))


def weighted_k_means(duplicate_filter: DuplicateFilter, scores: np.ndarray, count: int, seed: int) -> list[int]:
    """Informative and diverse rows: cluster the 10 `count` rows with the highest scores into `count` clusters by
    k-means, weighted by the scores, and choose the row nearest to each cluster center (Zhdanov, "Diverse mini-batch
    Active Learning", 2019).

    scores: `[rows]`, at least 0; if all scores are equal, only diversity counts

    Returns row indices in the order of their scores.
    """
    from sklearn.cluster import KMeans

    order = np.argsort(-scores, kind="stable")
    kept = order[: CANDIDATES_PER_ROW * count] if np.ptp(scores) > 0 else order
    if len(kept) > count:
        weight = np.maximum(scores[kept], 1e-6 * max(scores.max(), 1e-12))
        clusters = KMeans(count, n_init=1, random_state=seed).fit(duplicate_filter.features[kept], sample_weight=weight)
        chosen = []
        for number, center in enumerate(clusters.cluster_centers_):
            among = kept[clusters.labels_ == number]
            index = duplicate_filter.best_open(-((duplicate_filter.features - center) ** 2).sum(1), among)
            if index is not None:
                duplicate_filter.choose(index)
                chosen.append(index)
    else:
        chosen = []
    chosen += top_scores(duplicate_filter, scores, count - len(chosen))
    return sorted(chosen, key=lambda index: -scores[index])
