"""The most typical rows: what to label first, when no model has learned from labels yet."""

from __future__ import annotations

import numpy as np

from polymodal.applications.active_learning.distinct import Distinct

#: Most clusters, and nearest neighbours from which typicality is taken, as in the source.
MOST_CLUSTERS, NEIGHBOURS = 500, 20
#: Clusters of fewer rows are left to the last.
FEWEST = 5


def typical(distinct: Distinct, labelled: np.ndarray, count: int, seed: int) -> list[tuple[int, float, int]]:
    """TypiClust (Hacohen, Dekel & Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low
    Budgets", 2022, algorithm 1): all rows are put into (labelled + `count`) clusters by k-means; from the largest
    cluster with the fewest labels the most typical row is chosen, again and again. Typicality is density,
    (mean_j |x_i - x_j|)^-1 over the 20 nearest rows of the cluster.

    labelled: vectors of rows that have labels, `[labelled rows, width]`

    Returns places, their typicality, and the size of their clusters.
    """
    vectors = distinct.vectors
    if not len(vectors):
        return []
    together = np.concatenate([vectors, labelled.astype(np.float64).reshape(-1, vectors.shape[1])])
    cluster = _clusters(together, min(len(labelled) + count, MOST_CLUSTERS, len(together)), seed)
    here, taken = cluster[: len(vectors)], np.bincount(cluster[len(vectors) :], minlength=cluster.max() + 1)
    size = np.bincount(here, minlength=len(taken))
    density: dict[int, np.ndarray] = {}
    chosen: list[tuple[int, float, int]] = []
    while len(chosen) < count and distinct.open.any():
        left = np.bincount(here[distinct.open], minlength=len(size)) > 0
        rank = [(not left[c], size[c] < FEWEST, taken[c], -size[c]) for c in range(len(size))]
        best = min(range(len(size)), key=rank.__getitem__)
        among = np.flatnonzero(here == best)
        if best not in density:
            density[best] = typicality(vectors[among])
        scores = np.full(len(vectors), -np.inf)
        scores[among] = density[best]
        place = distinct.best(scores, among)
        assert place is not None
        distinct.choose(place)
        taken[best] += 1
        chosen.append((place, float(scores[place]), int(size[best])))
    return chosen


def typicality(vectors: np.ndarray) -> np.ndarray:
    """The inverse of the mean distance to the nearest `NEIGHBOURS` other rows of `vectors [rows, width]`, `[rows]`; a
    row by itself has 1."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(vectors) - 1)
    if count < 1:
        return np.ones(len(vectors))
    distances, _ = NearestNeighbors(n_neighbors=count + 1).fit(vectors).kneighbors(vectors)
    return np.asarray(1 / np.maximum(distances[:, 1:].mean(1), 1e-12))


def _clusters(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    kind = KMeans if count <= 50 else MiniBatchKMeans
    return np.asarray(kind(count, n_init=1, random_state=seed).fit_predict(vectors))
