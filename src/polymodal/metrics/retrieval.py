"""Retrieval metrics: ranks of relevant candidates in the order of similarity.

Ties count as wrong: an irrelevant candidate with the same similarity as a relevant one is ranked before it. A model
whose embeddings have collapsed to one point therefore has the worst possible scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from polymodal.metrics.base import UNIT, Metric

#: Similarities of unit vectors that differ by less are tied: rounding error of float32 dot products.
ROUNDING = 1e-6
#: Number of similarities in memory at once.
BLOCK = 2**22


def normalize_rows(vectors: np.ndarray) -> np.ndarray:
    """`vectors [rows, size]` with unit length, in the same dtype; zero vectors stay zero.

    Example:
        >>> import numpy as np
        >>> normalize_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


@dataclass(frozen=True)
class Relevance:
    """Relevant candidates of each query, both distinct.

    queries, candidates: indices in the arrays that they come from
    positives: for each query, sorted indices into `candidates` of its relevant candidates; never empty
    """

    queries: np.ndarray
    candidates: np.ndarray
    positives: list[np.ndarray]


@dataclass(frozen=True)
class Ranking:
    """Ranks of the relevant candidates of each query; `[queries]` each.

    first_rank: rank of the first relevant candidate, from 1
    average_precision: average precision
    positives: number of relevant candidates
    candidates: number of candidates
    """

    first_rank: np.ndarray
    average_precision: np.ndarray
    positives: np.ndarray
    candidates: int

    def distribution(self) -> np.ndarray:
        """First ranks and average precisions, `[queries, 2]`, as `RETRIEVAL_METRICS` read them."""
        return np.stack([self.first_rank, self.average_precision], axis=1).astype(np.float64)


def relevance(first: np.ndarray, second: np.ndarray) -> Relevance:
    """Relevant pairs of two inputs. Queries are the distinct items of `first`, candidates those of `second`.

    first, second: `[rows]`, item of each row in either input; -1: missing. An item that occurs in several rows is one
        query and one candidate. It is relevant for all items with which it shares a row. A candidate without a query
        remains a candidate; a query without a candidate is dropped.
    """
    present, both = np.flatnonzero(second >= 0), np.flatnonzero((first >= 0) & (second >= 0))
    candidates, earliest = np.unique(second[present], return_index=True)
    queries, occurrence = np.unique(first[both], return_index=True)
    pairs = np.unique(np.stack([first[both], second[both]], axis=1), axis=0)
    indices = np.searchsorted(candidates, pairs[:, 1])
    ends = np.searchsorted(pairs[:, 0], queries, side="right")
    return Relevance(both[occurrence], present[earliest], np.split(indices, ends[:-1]) if len(queries) else [])


def rank(similarity: np.ndarray, relevant: np.ndarray, *, rounding: float = 0.0) -> Ranking:
    """Rank candidates by similarity.

    similarity: `[queries, candidates]`, finite
    relevant: `[queries, candidates]` bool; each query has at least one
    rounding: similarities that differ by at most this are tied

    Example:
        >>> import numpy as np
        >>> ranking = rank(np.array([[0.9, 0.1, 0.5]]), np.array([[False, False, True]]))
        >>> ranking.first_rank.tolist(), ranking.average_precision.tolist()
        ([2], [0.5])
    """
    if not relevant.any(1).all():
        raise ValueError("each query needs at least one relevant candidate")
    ranked = [
        _rank_one(row, np.flatnonzero(relevant), rounding) for row, relevant in zip(similarity, relevant, strict=True)
    ]
    return _ranking(ranked, relevant.sum(1), similarity.shape[1])


def rank_vectors(
    queries: np.ndarray, candidates: np.ndarray, positives: list[np.ndarray], *, rounding: float = ROUNDING
) -> Ranking:
    """Rank candidates by the dot products of unit vectors `queries [q, size]` and `candidates [c, size]`, computed in
    blocks.

    positives: for each query, indices of its relevant candidates
    """
    ranked = []
    step = max(1, BLOCK // max(1, len(candidates)))
    for start in range(0, len(queries), step):
        similarity = queries[start : start + step] @ candidates.T
        relevant = positives[start : start + step]
        ranked += [_rank_one(row, indices, rounding) for row, indices in zip(similarity, relevant, strict=True)]
    return _ranking(ranked, np.array([len(indices) for indices in positives], dtype=np.int64), len(candidates))


def _rank_one(similarity: np.ndarray, relevant: np.ndarray, rounding: float) -> tuple[int, float]:
    """First rank and average precision of one query from `similarity [candidates]`."""
    relevant_scores = np.sort(similarity[relevant])
    others = np.delete(similarity, relevant)
    counts = np.bincount(
        np.searchsorted(relevant_scores, others + relevant_scores.dtype.type(rounding), side="right"),
        minlength=len(relevant) + 1,
    )
    irrelevant_before = np.cumsum(counts[::-1])[:-1]  # irrelevant candidates before the first, second, ... relevant one
    order = np.arange(1, len(relevant) + 1)
    ranks = order + irrelevant_before
    return int(ranks[0]), float((order / ranks).mean())


def _ranking(ranked: list[tuple[int, float]], positives: np.ndarray, candidates: int) -> Ranking:
    first_rank = np.array([rank for rank, _ in ranked], dtype=np.int64)
    average_precision = np.array([precision for _, precision in ranked], dtype=np.float64)
    return Ranking(first_rank, average_precision, positives.astype(np.int64), candidates)


def recall_at(k: int) -> Metric:
    """Fraction of queries with a relevant candidate among the first `k`."""

    def score(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
        return _mean(distribution[:, 0] <= k, weight)

    return Metric(f"recall@{k}", score, bounds=UNIT)


def median_rank(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Median of the first ranks; NaN without queries."""
    return _prepared_median(distribution, truth)(weight)


def mean_average_precision(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Mean average precision over queries,

        AP = 1/P sum_i i / rank_i    over the P relevant candidates of a query in their order

    (Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 2008, section 8.4); NaN without queries.
    """
    return _mean(distribution[:, 1], weight)


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    total = weight.sum()
    return float(values @ weight / total) if total > 0 else float("nan")


def _prepared_median(distribution: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
    order = np.argsort(distribution[:, 0], kind="stable")
    return partial(_sorted_median, distribution[order, 0], order)


def _sorted_median(ranks: np.ndarray, order: np.ndarray, weight: np.ndarray) -> float:
    cumulative = np.cumsum(weight[order])
    if not len(cumulative) or cumulative[-1] <= 0:
        return float("nan")
    half = cumulative[-1] / 2
    lower, upper = np.searchsorted(cumulative, half, side="left"), np.searchsorted(cumulative, half, side="right")
    return float((ranks[lower] + ranks[min(upper, len(ranks) - 1)]) / 2)


#: In the order of reports. They read `Ranking.distribution()`, which contains the truth; the truth argument is ignored.
RETRIEVAL_METRICS = (
    recall_at(1),
    recall_at(5),
    recall_at(10),
    Metric("median_rank", median_rank, greater_is_better=False, prepared=_prepared_median, bounds=(1.0, math.inf)),
    Metric("map", mean_average_precision, bounds=UNIT),
)


def random_baseline(positives: np.ndarray, candidates: int) -> dict[str, float]:
    """Expected scores of a random order of the candidates, by metric; NaN without queries.

    positives: `[queries]`, number of relevant candidates of each query

    With n candidates of which P are relevant, the first relevant one is ranked after r with probability C(n - P, r) /
    C(n, r). So the expected recall@k of a query is 1 - C(n - P, k) / C(n, k), and the median rank is the smallest r at
    which the mean over queries of 1 - C(n - P, r) / C(n, r) reaches one half. A relevant candidate at rank r
    (probability P / n) has on average (r - 1) (P - 1) / (n - 1) other relevant ones before it, so the expected average
    precision is

        1/n (H_n + (n - H_n) (P - 1) / (n - 1)),    H_n = 1 + 1/2 + ... + 1/n
    """
    if not len(positives):
        return dict.fromkeys((metric.name for metric in RETRIEVAL_METRICS), float("nan"))
    n = candidates
    distinct, counts = np.unique(positives, return_counts=True)
    fraction = counts / counts.sum()
    none_before = np.stack([_none_before(n, int(relevant)) for relevant in distinct])
    found = fraction @ (1 - none_before)
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    precision = (harmonic + (n - harmonic) * (distinct - 1) / max(1, n - 1)) / n
    return {
        **{f"recall@{k}": float(found[min(k, n)]) for k in (1, 5, 10)},
        "median_rank": float(np.searchsorted(found, 0.5 - 1e-12)),
        "map": float(fraction @ precision),
    }


def _none_before(candidates: int, positives: int) -> np.ndarray:
    """Probability that none of the first r candidates is relevant, for r from 0 to `candidates`."""
    drawn = np.arange(candidates)
    return np.concatenate([[1.0], np.cumprod(np.maximum(candidates - positives - drawn, 0) / (candidates - drawn))])
