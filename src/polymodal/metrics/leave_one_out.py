"""Scores of embeddings: each row asks for the other rows of its group among all other rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.retrieval import BLOCK, ROUNDING, mean_average_precision, rank, recall_at

#: Below every similarity of unit vectors: where a row stands in its own ranking.
LAST = -3.0

Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def leave_one_out(vectors: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each row has to look for its group: the rows that have another of their group, `[queries]`, and for each
    the rank of the first of them (from 1) and the average precision, `[queries, 2]`. Ties count against us.

    vectors: `[rows, size]` of unit length; groups: `[rows]`
    """
    _, member, counts = np.unique(groups, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(counts[member] > 1)
    found = []
    step = max(1, BLOCK // max(1, len(vectors)))
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        similarity = vectors[rows] @ vectors.T
        similarity[np.arange(len(rows)), rows] = LAST
        relevant = member[rows, None] == member
        relevant[np.arange(len(rows)), rows] = False
        found.append(rank(similarity, relevant, rounding=ROUNDING).distribution())
    return queries, np.concatenate(found) if found else np.zeros((0, 2))


def leave_one_out_metrics() -> list[Metric]:
    """Recall at 1 and 5 and mean average precision, leaving each query out of its candidates. Weights are those of the
    queries: candidates stay as they are in every resample. The metrics of one list rank the same rows once."""
    ranked = _Once()
    one, five = recall_at(1), recall_at(5)
    return [
        _metric("recall@1", one.score, ranked),
        _metric("recall@5", five.score, ranked),
        _metric("map", mean_average_precision, ranked),
    ]


class _Once:
    """`leave_one_out`, computed once for the same arrays."""

    def __init__(self) -> None:
        self.arrays: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, vectors: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.arrays is None or self.arrays[0] is not vectors or self.arrays[1] is not groups:
            self.arrays, self.found = (vectors, groups), leave_one_out(vectors, groups)
        return self.found


def _metric(name: str, score: Score, ranked: _Once) -> Metric:
    def prepared(vectors: np.ndarray, groups: np.ndarray) -> Callable[[np.ndarray], float]:
        queries, ranking = ranked(vectors, groups)
        return lambda weight: score(ranking, ranking, weight[queries])

    return Metric(name, lambda vectors, groups, weight: prepared(vectors, groups)(weight), prepared=prepared)
