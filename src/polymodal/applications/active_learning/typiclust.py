"""TypiClust: choose typical rows, for the first labels before any model was trained."""

from __future__ import annotations

import numpy as np

from polymodal.applications.active_learning.duplicate_filter import DuplicateFilter

#: Maximum number of clusters, and number of nearest neighbors for typicality, as in the paper.
MAX_CLUSTERS, NUM_NEIGHBORS = 500, 20
#: Clusters with fewer rows are used last.
MIN_CLUSTER_SIZE = 5


def typiclust(
    duplicate_filter: DuplicateFilter, labeled: np.ndarray, count: int, seed: int
) -> list[tuple[int, float, int]]:
    """TypiClust (Hacohen, Dekel & Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low
    Budgets", 2022, algorithm 1). All rows are clustered by k-means into (number of labeled rows + `count`) clusters.
    The most typical row of the largest cluster among those with the fewest labels is chosen, repeatedly. Typicality is
    the density (mean_j |x_i - x_j|)^-1 over the 20 nearest rows of the cluster.

    labeled: features of the labeled rows, `[labeled rows, width]`

    Returns row indices, their typicality, and the sizes of their clusters.
    """
    features = duplicate_filter.features
    if not len(features):
        return []
    all_features = np.concatenate([features, labeled.astype(np.float64).reshape(-1, features.shape[1])])
    cluster = _clusters(all_features, min(len(labeled) + count, MAX_CLUSTERS, len(all_features)), seed)
    row_cluster, num_labels = (
        cluster[: len(features)],
        np.bincount(cluster[len(features) :], minlength=cluster.max() + 1),
    )
    size = np.bincount(row_cluster, minlength=len(num_labels))
    density: dict[int, np.ndarray] = {}
    chosen: list[tuple[int, float, int]] = []
    while len(chosen) < count and duplicate_filter.is_open.any():
        has_open_rows = np.bincount(row_cluster[duplicate_filter.is_open], minlength=len(size)) > 0
        rank = [(not has_open_rows[c], size[c] < MIN_CLUSTER_SIZE, num_labels[c], -size[c]) for c in range(len(size))]
        best = min(range(len(size)), key=rank.__getitem__)
        among = np.flatnonzero(row_cluster == best)
        if best not in density:
            density[best] = typicality(features[among])
        scores = np.full(len(features), -np.inf)
        scores[among] = density[best]
        index = duplicate_filter.best_open(scores, among)
        assert index is not None
        duplicate_filter.choose(index)
        num_labels[best] += 1
        chosen.append((index, float(scores[index]), int(size[best])))
    return chosen


def typicality(features: np.ndarray) -> np.ndarray:
    """The inverse mean distance `[rows]` to the `NUM_NEIGHBORS` nearest other rows of `features [rows, width]`; 1 for a
    single row."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NUM_NEIGHBORS, len(features) - 1)
    if count < 1:
        return np.ones(len(features))
    distances, _ = NearestNeighbors(n_neighbors=count + 1).fit(features).kneighbors(features)
    return np.asarray(1 / np.maximum(distances[:, 1:].mean(1), 1e-12))


def _clusters(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    estimator = KMeans if count <= 50 else MiniBatchKMeans
    return np.asarray(estimator(count, n_init=1, random_state=seed).fit_predict(features))
