"""Scores of retrieval: where a query's own candidates stand when all candidates are ordered by similarity.

Ties count against us: a candidate that does not belong to the query and is as similar as one that does stands before
it. A model whose embeddings have collapsed to one point therefore scores nothing, not the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from polymodal.metrics.base import Metric

#: Two similarities of unit vectors that differ by less are equal: what float32 rounds in a sum of products.
ROUNDING = 1e-6
#: Similarities that are held at once.
BLOCK = 2**22


def normalize_rows(vectors: np.ndarray) -> np.ndarray:
    """`vectors [rows, size]` at length 1, in their own number format; a vector of zeros stays zeros."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


@dataclass(frozen=True)
class Relevance:
    """Which candidates belong to which query, both distinct.

    queries, candidates: the place of each in the arrays that they came from
    positives: by query, the places among `candidates` that belong to it, sorted; never empty
    """

    queries: np.ndarray
    candidates: np.ndarray
    positives: list[np.ndarray]


@dataclass(frozen=True)
class Ranking:
    """Where the positives of each query stand; `[queries]` each.

    first_rank: rank of the first positive, from 1
    average_precision: average precision
    positives: how many candidates belong to the query
    candidates: how many candidates there are
    """

    first_rank: np.ndarray
    average_precision: np.ndarray
    positives: np.ndarray
    candidates: int

    def distribution(self) -> np.ndarray:
        """`[queries, 2]` of first ranks and average precisions, which `RETRIEVAL_METRICS` read."""
        return np.stack([self.first_rank, self.average_precision], axis=1).astype(np.float64)


def relevance(first: np.ndarray, second: np.ndarray) -> Relevance:
    """Queries are the distinct items of `first`, candidates those of `second`; rows bring them together.

    first, second: `[rows]`, the item that each row has of either input, -1 where it has none. Items that occur in
        several rows are one query and one candidate, and an item belongs to all that it shares a row with. A candidate
        without a query stays a candidate; a query without a candidate is left out.
    """
    there, both = np.flatnonzero(second >= 0), np.flatnonzero((first >= 0) & (second >= 0))
    candidates, earliest = np.unique(second[there], return_index=True)
    queries, occurrence = np.unique(first[both], return_index=True)
    pairs = np.unique(np.stack([first[both], second[both]], axis=1), axis=0)
    places = np.searchsorted(candidates, pairs[:, 1])
    ends = np.searchsorted(pairs[:, 0], queries, side="right")
    return Relevance(both[occurrence], there[earliest], np.split(places, ends[:-1]) if len(queries) else [])


def rank(similarity: np.ndarray, relevant: np.ndarray, *, rounding: float = 0.0) -> Ranking:
    """Rank by given similarities.

    similarity: `[queries, candidates]`, finite
    relevant: `[queries, candidates]` bool; every query has at least one
    rounding: similarities that differ by no more than this are tied
    """
    if not relevant.any(1).all():
        raise ValueError("every query needs a candidate that belongs to it")
    ranked = [_rank_one(row, np.flatnonzero(own), rounding) for row, own in zip(similarity, relevant, strict=True)]
    return _ranking(ranked, relevant.sum(1), similarity.shape[1])


def rank_vectors(
    queries: np.ndarray, candidates: np.ndarray, positives: list[np.ndarray], *, rounding: float = ROUNDING
) -> Ranking:
    """Rank by the inner products of unit vectors `queries [q, size]` and `candidates [c, size]`, computed in blocks.

    positives: by query, the places of the candidates that belong to it
    """
    ranked = []
    step = max(1, BLOCK // max(1, len(candidates)))
    for start in range(0, len(queries), step):
        similarity = queries[start : start + step] @ candidates.T
        own = positives[start : start + step]
        ranked += [_rank_one(row, places, rounding) for row, places in zip(similarity, own, strict=True)]
    return _ranking(ranked, np.array([len(places) for places in positives], dtype=np.int64), len(candidates))


def _rank_one(similarity: np.ndarray, own: np.ndarray, rounding: float) -> tuple[int, float]:
    """First rank and average precision of one query over `similarity [candidates]`."""
    mine = np.sort(similarity[own])
    others = np.delete(similarity, own)
    beaten = np.bincount(
        np.searchsorted(mine, others + mine.dtype.type(rounding), side="right"), minlength=len(own) + 1
    )
    ahead = np.cumsum(beaten[::-1])[:-1]  # others before the best, the second best, ... of mine
    order = np.arange(1, len(own) + 1)
    ranks = order + ahead
    return int(ranks[0]), float((order / ranks).mean())


def _ranking(ranked: list[tuple[int, float]], positives: np.ndarray, candidates: int) -> Ranking:
    first = np.array([one for one, _ in ranked], dtype=np.int64)
    precision = np.array([one for _, one in ranked], dtype=np.float64)
    return Ranking(first, precision, positives.astype(np.int64), candidates)


def recall_at(k: int) -> Metric:
    """The share of queries with a candidate of their own among the first `k`."""

    def score(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
        return _mean(distribution[:, 0] <= k, weight)

    return Metric(f"recall@{k}", score)


def median_rank(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """The median of the first ranks; NaN without queries."""
    return _prepared_median(distribution, truth)(weight)


def mean_average_precision(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """The mean over queries of the average precision,

        AP = 1/P sum_i i / rank_i    over the query's P positives in their order

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
    below = np.cumsum(weight[order])
    if not len(below) or below[-1] <= 0:
        return float("nan")
    half = below[-1] / 2
    lower, upper = np.searchsorted(below, half, side="left"), np.searchsorted(below, half, side="right")
    return float((ranks[lower] + ranks[min(upper, len(ranks) - 1)]) / 2)


#: In the order of reports. They read `Ranking.distribution()`; the truth is already in it and not read.
RETRIEVAL_METRICS = (
    recall_at(1),
    recall_at(5),
    recall_at(10),
    Metric("median_rank", median_rank, greater_is_better=False, prepared=_prepared_median),
    Metric("map", mean_average_precision),
)


def random_baseline(positives: np.ndarray, candidates: int) -> dict[str, float]:
    """What a random order of the candidates scores, by metric; NaN without queries.

    positives: `[queries]`, how many of the `candidates` belong to each query

    With n candidates of which P are positive, the first positive stands behind rank r with probability
    C(n - P, r) / C(n, r). So the expected recall@k of a query is 1 - C(n - P, k) / C(n, k), and the median rank is the
    smallest r that the mean over queries of 1 - C(n - P, r) / C(n, r) brings to a half. A positive at rank r (which is
    there with probability P / n) has on average (r - 1) (P - 1) / (n - 1) others before it, so the expected average
    precision is

        1/n (H_n + (n - H_n) (P - 1) / (n - 1)),    H_n = 1 + 1/2 + ... + 1/n
    """
    if not len(positives):
        return dict.fromkeys((metric.name for metric in RETRIEVAL_METRICS), float("nan"))
    n = candidates
    distinct, counts = np.unique(positives, return_counts=True)
    share = counts / counts.sum()
    behind = np.stack([_behind(n, int(own)) for own in distinct])
    found = share @ (1 - behind)
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    precision = (harmonic + (n - harmonic) * (distinct - 1) / max(1, n - 1)) / n
    return {
        **{f"recall@{k}": float(found[min(k, n)]) for k in (1, 5, 10)},
        "median_rank": float(np.searchsorted(found, 0.5 - 1e-12)),
        "map": float(share @ precision),
    }


def _behind(candidates: int, positives: int) -> np.ndarray:
    """The probability that none of the first r candidates is positive, for r from 0 to `candidates`."""
    taken = np.arange(candidates)
    return np.concatenate([[1.0], np.cumprod(np.maximum(candidates - positives - taken, 0) / (candidates - taken))])
