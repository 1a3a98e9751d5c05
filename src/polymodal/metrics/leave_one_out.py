"""Leave-one-out retrieval metrics of embeddings: each row is a query for the other rows of its group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polymodal.metrics.base import UNIT, Metric
from polymodal.metrics.retrieval import BLOCK, ROUNDING, mean_average_precision, rank, recall_at

#: Similarity of a row with itself, below those of all other rows.
SELF_SIMILARITY = -3.0

Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def leave_one_out(vectors: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank the rows of the same group for each query. Returns the rows that share their group with another row,
    `[queries]`, and for each the rank of the first relevant row (from 1) and the average precision, `[queries, 2]`.
    Ties count as wrong.

    vectors: `[rows, size]` of unit length; groups: `[rows]`
    """
    _, member, counts = np.unique(groups, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(counts[member] > 1)
    found = []
    step = max(1, BLOCK // max(1, len(vectors)))
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        similarity = vectors[rows] @ vectors.T
        similarity[np.arange(len(rows)), rows] = SELF_SIMILARITY
        relevant = member[rows, None] == member
        relevant[np.arange(len(rows)), rows] = False
        found.append(rank(similarity, relevant, rounding=ROUNDING).distribution())
    return queries, np.concatenate(found) if found else np.zeros((0, 2))


def leave_one_out_metrics() -> list[Metric]:
    """Recall at 1 and 5 and mean average precision; each query is excluded from its candidates. Weights apply to the
    queries; the candidates are the same in every resample. The metrics of one list share one ranking."""
    ranked = _CachedRanking()
    recall_1, recall_5 = recall_at(1), recall_at(5)
    return [
        _metric("recall@1", recall_1.score, ranked),
        _metric("recall@5", recall_5.score, ranked),
        _metric("map", mean_average_precision, ranked),
    ]


class _CachedRanking:
    """`leave_one_out`, cached for the same arrays."""

    def __init__(self) -> None:
        self.arrays: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, vectors: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.arrays is None or self.arrays[0] is not vectors or self.arrays[1] is not groups:
            self.arrays, self.result = (vectors, groups), leave_one_out(vectors, groups)
        return self.result


def _metric(name: str, score: Score, ranked: _CachedRanking) -> Metric:
    def prepared(vectors: np.ndarray, groups: np.ndarray) -> Callable[[np.ndarray], float]:
        queries, ranking = ranked(vectors, groups)
        return lambda weight: score(ranking, ranking, weight[queries])

    return Metric(
        name, lambda vectors, groups, weight: prepared(vectors, groups)(weight), prepared=prepared, bounds=UNIT
    )
