"""Retrieval metrics equal hand-computed cases and plain loops; the random baseline is the mean over all orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.metrics.retrieval import (
    RETRIEVAL_METRICS,
    Ranking,
    random_baseline,
    rank,
    rank_vectors,
    relevance,
)

METRICS = {metric.name: metric for metric in RETRIEVAL_METRICS}


def scores(ranking: Ranking, weight: np.ndarray | None = None) -> dict[str, float]:
    table = ranking.distribution()
    weight = np.ones(len(table)) if weight is None else weight
    return {name: metric.weighted(table, table)(weight) for name, metric in METRICS.items()}


def plain(similarity: np.ndarray, own: set[int]) -> tuple[int, float]:
    """First rank and average precision of one query, candidate by candidate; ties put others before ours."""
    order = sorted(range(len(similarity)), key=lambda place: (-similarity[place], place in own))
    ranks = [position for position, place in enumerate(order, 1) if place in own]
    return ranks[0], sum(found / position for found, position in enumerate(ranks, 1)) / len(ranks)


def test_by_hand() -> None:
    similarity = np.array([[0.9, 0.8, 0.1, 0.0], [0.5, 0.5, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    relevant = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]], dtype=bool)
    ranking = rank(similarity, relevant)
    assert ranking.first_rank.tolist() == [1, 2, 4]
    assert ranking.average_precision == pytest.approx([1.0, (1 / 2 + 2 / 4) / 2, 1 / 4])
    assert ranking.positives.tolist() == [1, 2, 1]
    assert scores(ranking) == pytest.approx(
        {"recall@1": 1 / 3, "recall@5": 1.0, "recall@10": 1.0, "median_rank": 2.0, "map": (1 + 0.5 + 0.25) / 3}
    )


def test_a_collapsed_model_finds_nothing() -> None:
    vectors = np.full((50, 8), 8**-0.5, np.float32)
    ranking = rank_vectors(vectors, vectors, [np.array([place]) for place in range(50)])
    assert (ranking.first_rank == 50).all()
    assert scores(ranking)["recall@10"] == 0


cases = st.integers(1, 6).flatmap(
    lambda candidates: st.tuples(
        st.lists(st.integers(0, 3), min_size=candidates, max_size=candidates),
        st.lists(st.booleans(), min_size=candidates, max_size=candidates).filter(any),
    )
)


@given(st.lists(cases, min_size=1, max_size=4))
@settings(deadline=None, max_examples=200)
def test_each_query_equals_the_plain_loop(queries: list[tuple[list[int], list[bool]]]) -> None:
    for values, own in queries:
        similarity, relevant = np.array([values], float) / 4, np.array([own])
        ranking = rank(similarity, relevant)
        first, precision = plain(similarity[0], set(np.flatnonzero(relevant[0]).tolist()))
        assert ranking.first_rank.tolist() == [first]
        assert ranking.average_precision == pytest.approx([precision])


def test_blocks_of_vectors_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    queries, candidates = (
        array / np.linalg.norm(array, axis=1, keepdims=True) for array in draw.normal(size=(2, 40, 6))
    )
    relevant = draw.random((40, 40)) < 0.1
    relevant[np.arange(40), np.arange(40)] = True
    whole = rank(queries @ candidates.T, relevant)
    monkeypatch.setattr("polymodal.metrics.retrieval.BLOCK", 130)
    blocks = rank_vectors(queries, candidates, [np.flatnonzero(row) for row in relevant], rounding=0.0)
    assert (blocks.first_rank == whole.first_rank).all()
    assert blocks.average_precision == pytest.approx(whole.average_precision)


@pytest.mark.parametrize(("candidates", "positives"), [(5, 1), (6, 2), (7, 5), (4, 4), (1, 1)])
def test_chance_is_the_mean_over_all_orders(candidates: int, positives: int) -> None:
    found = []
    for own in itertools.combinations(range(candidates), positives):
        found.append(plain(-np.arange(candidates, dtype=float), set(own)))
    firsts = np.array([first for first, _ in found])
    level = random_baseline(np.array([positives]), candidates)
    assert level["map"] == pytest.approx(np.mean([precision for _, precision in found]))
    for k in (1, 5, 10):
        assert level[f"recall@{k}"] == pytest.approx((firsts <= k).mean())
    half = min(rank for rank in range(1, candidates + 1) if (firsts <= rank).mean() >= 0.5)
    assert level["median_rank"] == half


def test_chance_of_one_positive_each() -> None:
    level = random_baseline(np.ones(108, np.int64), 108)
    assert level["recall@1"] == pytest.approx(1 / 108)
    assert level["recall@10"] == pytest.approx(10 / 108)
    assert level["median_rank"] == 54


def test_chance_is_the_mean_over_queries() -> None:
    mixed = random_baseline(np.array([1, 3, 3]), 9)
    one, three = random_baseline(np.array([1]), 9), random_baseline(np.array([3]), 9)
    for name in ("recall@1", "recall@5", "map"):
        assert mixed[name] == pytest.approx((one[name] + 2 * three[name]) / 3)


def test_random_vectors_score_chance() -> None:
    draw = np.random.default_rng(1)
    queries, candidates = (
        array / np.linalg.norm(array, axis=1, keepdims=True) for array in draw.normal(size=(2, 2000, 8))
    )
    candidates = candidates[:50]
    own = [draw.choice(50, size=2, replace=False) for _ in range(2000)]
    found, level = scores(rank_vectors(queries, candidates, own)), random_baseline(np.full(2000, 2), 50)
    for name in ("recall@1", "recall@5", "recall@10"):
        assert abs(found[name] - level[name]) < 4 * math.sqrt(level[name] * (1 - level[name]) / 2000)
    assert abs(found["median_rank"] - level["median_rank"]) <= 1
    assert found["map"] == pytest.approx(level["map"], abs=0.02)


def test_items_of_several_rows_are_one_query_and_one_candidate() -> None:
    image = np.array([7, 7, 3, -1, 5])
    caption = np.array([0, 1, 1, 2, -1])
    found = relevance(image, caption)
    assert image[found.queries].tolist() == [3, 7]
    assert caption[found.candidates].tolist() == [0, 1, 2]
    assert [places.tolist() for places in found.positives] == [[1], [0, 1]]
    back = relevance(caption, image)
    assert caption[back.queries].tolist() == [0, 1]
    assert image[back.candidates].tolist() == [3, 5, 7]
    assert [places.tolist() for places in back.positives] == [[2], [0, 2]]


def test_no_pairs_are_undefined() -> None:
    found = relevance(np.array([0, -1]), np.array([-1, 0]))
    assert len(found.queries) == 0
    assert len(found.candidates) == 1
    ranking = rank_vectors(np.zeros((0, 4), np.float32), np.ones((1, 4), np.float32) / 2, [])
    assert all(math.isnan(value) for value in scores(ranking).values())
    assert all(math.isnan(value) for value in random_baseline(ranking.positives, ranking.candidates).values())


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=12))
@settings(deadline=None)
def test_weights_count_as_repeated_queries(rows: list[tuple[int, int]]) -> None:
    ranks, times = (np.array(column) for column in zip(*rows, strict=True))
    weighted = Ranking(ranks, 1 / ranks, np.ones_like(ranks), 9)
    again = np.repeat(ranks, times)
    repeated = Ranking(again, 1 / np.maximum(again, 1), np.ones_like(again), 9)
    for name, value in scores(weighted, times.astype(float)).items():
        assert value == pytest.approx(scores(repeated)[name], nan_ok=True)
    if times.sum():
        assert scores(weighted, times.astype(float))["median_rank"] == np.median(again)


def test_a_query_without_a_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="each query"):
        rank(np.zeros((1, 2)), np.zeros((1, 2), dtype=bool))
