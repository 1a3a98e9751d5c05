"""Strategies on planted pools: their rows improve a model more than random rows, and cover the planted clusters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.linear_model import LogisticRegression

from polymodal.applications.active_learning.diversity import badge_seeds, k_center_greedy, top_scores, weighted_k_means
from polymodal.applications.active_learning.duplicate_filter import DuplicateFilter
from polymodal.applications.active_learning.typiclust import typiclust
from polymodal.applications.active_learning.uncertainty import disagreement, entropy, least_confident, margin

CLUSTERS, WIDE, SEEDS = 12, 8, 20


def planted(seed: int, rows: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors in clusters of very different size, the class of each, and its cluster. A random draw sees little of the
    small clusters; neighboring clusters are of different classes."""
    draw = np.random.default_rng(seed)
    size = 0.7 ** np.arange(CLUSTERS)
    cluster = draw.choice(CLUSTERS, rows, p=size / size.sum())
    cluster[:CLUSTERS] = np.arange(CLUSTERS)
    centres = 4 * draw.normal(size=(CLUSTERS, WIDE))
    return centres[cluster] + draw.normal(size=(rows, WIDE)), cluster % 4, cluster


def learned(x: np.ndarray, y: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=10.0, max_iter=300).fit(x, y)


def error_embedding(p: np.ndarray) -> np.ndarray:
    return p - (p == p.max(1, keepdims=True))


CHOOSE: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, int], list[int]]] = {
    "margin": lambda x, p, known, seed: top_scores(DuplicateFilter(x), margin(p, "categorical"), 24),
    "entropy": lambda x, p, known, seed: top_scores(DuplicateFilter(x), entropy(p, "categorical"), 24),
    "least_confident": lambda x, p, known, seed: top_scores(DuplicateFilter(x), least_confident(p, "categorical"), 24),
    "mixed": lambda x, p, known, seed: weighted_k_means(DuplicateFilter(x), margin(p, "categorical"), 24, seed),
    "badge": lambda x, p, known, seed: [
        place for place, _ in badge_seeds(DuplicateFilter(x), error_embedding(p), 24, np.random.default_rng(seed))
    ],
    "coreset": lambda x, p, known, seed: [place for place, _ in k_center_greedy(DuplicateFilter(x), known, 24)],
    "typical": lambda x, p, known, seed: [place for place, _, _ in typiclust(DuplicateFilter(x), known, 24, seed)],
}


@cache
def task(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """A pool whose first rows are labeled, the probabilities of a model trained on them, rows for the score that come
    from every cluster equally, and the mean accuracy with 24 more random labels."""
    x, y, cluster = planted(seed, 2000)
    even = np.concatenate([np.flatnonzero(cluster[300:] == c)[:20] + 300 for c in range(CLUSTERS)])
    pool, labels = x[:300], y[:300]
    known = np.concatenate([np.flatnonzero(labels == c)[:2] for c in range(4)])
    order = np.concatenate([known, np.setdiff1d(np.arange(300), known)])
    pool, labels = pool[order], labels[order]
    p = learned(pool[:8], labels[:8]).predict_proba(pool[8:])
    draw = np.random.default_rng(seed)
    drawn = [draw.choice(np.arange(8, 300), 24, replace=False) for _ in range(4)]
    random = float(np.mean([reached(pool, labels, rows, x[even], y[even]) for rows in drawn]))
    return pool, labels, p, x[even], y[even], random


def reached(pool: np.ndarray, labels: np.ndarray, rows: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """The accuracy of a model trained on the first 8 rows of the pool and on `rows`."""
    taught = np.concatenate([np.arange(8), rows])
    return float((learned(pool[taught], labels[taught]).predict(test) == truth).mean())


def assert_gained(gains: list[float]) -> None:
    """At least 2 points on average, and significant (paired over seeds)."""
    assert np.mean(gains) > 0.02, gains
    assert ttest_1samp(gains, 0, alternative="greater").pvalue < 0.01, gains


@pytest.mark.parametrize("by", [by for by in CHOOSE if by != "typical"])
def test_suggested_rows_are_better_than_random_rows(by: str) -> None:
    gains = []
    for seed in range(SEEDS):
        pool, labels, p, test, truth, random = task(seed)
        chosen = np.array(CHOOSE[by](pool[8:], p, pool[:8], seed)) + 8
        assert len(set(chosen.tolist())) == 24
        gains.append(reached(pool, labels, chosen, test, truth) - random)
    assert_gained(gains)


def test_typical_rows_are_better_than_random_rows_without_labels() -> None:
    gains = []
    for seed in range(SEEDS):
        pool, labels, _, test, truth, _ = task(seed)
        chosen = np.array([place for place, _, _ in typiclust(DuplicateFilter(pool), pool[:0], 12, seed)])
        draw = np.random.default_rng(seed)
        drawn = [draw.choice(300, 12, replace=False) for _ in range(4)]
        random, own = (
            [float((learned(pool[r], labels[r]).predict(test) == truth).mean()) for r in rows]
            for rows in (drawn, [chosen])
        )
        gains.append(own[0] - float(np.mean(random)))
    assert_gained(gains)


def test_a_core_set_covers_every_cluster_and_a_random_draw_does_not() -> None:
    missed = 0
    for seed in range(5):
        x, _, cluster = planted(seed)
        draw = np.random.default_rng(seed)
        chosen = [place for place, _ in k_center_greedy(DuplicateFilter(x), x[:0], 3 * CLUSTERS)]
        assert set(cluster[chosen].tolist()) == set(range(CLUSTERS))
        missed += CLUSTERS - len(set(cluster[draw.choice(len(x), 3 * CLUSTERS, replace=False)].tolist()))
    assert missed > 0


def test_a_core_set_is_far_from_labeled_rows() -> None:
    x, _, cluster = planted(0)
    x[cluster == 11] += 100
    assert cluster[k_center_greedy(DuplicateFilter(x), x[cluster == 0], 1)[0][0]] == 11
    assert cluster[k_center_greedy(DuplicateFilter(x), x[cluster == 11], 1)[0][0]] != 11


def test_typical_rows_are_near_the_center_of_each_cluster() -> None:
    draw = np.random.default_rng(0)
    cluster = np.repeat(np.arange(6), 40)
    x = 20 * np.eye(6)[cluster] + draw.normal(size=(240, 6))
    chosen = typiclust(DuplicateFilter(x), x[:0], 6, 0)
    assert sorted(cluster[place] for place, _, _ in chosen) == list(range(6))
    for place, _, size in chosen:
        own = x[cluster == cluster[place]]
        distance = np.linalg.norm(own - own.mean(0), axis=1)
        assert size == 40
        assert np.linalg.norm(x[place] - own.mean(0)) < np.median(distance)
    labeled = x[cluster < 3][::20]
    assert {cluster[place] for place, _, _ in typiclust(DuplicateFilter(x), labeled, 3, 0)} == {3, 4, 5}


@pytest.mark.parametrize("by", CHOOSE)
def test_near_duplicates_are_chosen_once(by: str) -> None:
    draw = np.random.default_rng(1)
    once = draw.normal(size=(30, WIDE))
    x = np.concatenate([once, once + 1e-4 * draw.normal(size=once.shape), once])
    p = np.tile(draw.dirichlet(np.ones(3), 30), (3, 1))
    chosen = CHOOSE[by](x, p, x[:0], 0)
    assert len(chosen) == 24
    assert len({place % 30 for place in chosen}) == 24


def test_fewer_rows_are_chosen_if_the_others_are_duplicates() -> None:
    distinct = DuplicateFilter(np.repeat(np.eye(3), 5, axis=0))
    assert len(top_scores(distinct, np.arange(15.0), 10)) == 3
    assert distinct.num_duplicates == 12


def test_badge_seeds_equal_those_of_the_full_products() -> None:
    draw = np.random.default_rng(2)
    x, p = draw.normal(size=(50, 5)), draw.dirichlet(np.ones(3), 50)
    e = error_embedding(p)
    written = (e[:, :, None] * x[:, None, :]).reshape(50, -1)
    chosen = badge_seeds(DuplicateFilter(x), e, 8, np.random.default_rng(0))
    for number, (place, score) in enumerate(chosen):
        before = written[[one for one, _ in chosen[:number]]]
        known = ((before - written[place]) ** 2).sum(1).min() if number else (written[place] ** 2).sum()
        assert score == pytest.approx(known)


def test_measures_have_their_ends_and_the_known_values_between() -> None:
    even, sure = np.full((1, 4), 0.25), np.eye(4)[:1]
    for measure in (margin, entropy, least_confident):
        assert measure(even, "categorical")[0] == pytest.approx(1)
        assert measure(sure, "categorical")[0] == pytest.approx(0)
        assert measure(np.full((1, 3), 0.5), "binary")[0] == pytest.approx(1)
        assert measure(np.array([[0.0, 1.0]]), "binary")[0] == pytest.approx(0)
    p = np.array([[0.6, 0.3, 0.1]])
    assert margin(p, "categorical")[0] == pytest.approx(0.7)
    assert least_confident(p, "categorical")[0] == pytest.approx(0.6)
    assert entropy(p, "categorical")[0] == pytest.approx(-(p * np.log(p)).sum() / np.log(3))


def test_equally_uncertain_members_do_not_disagree() -> None:
    alike = np.full((3, 1, 2), 0.5)
    apart = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert disagreement(alike, "categorical")[0] == pytest.approx(0)
    assert disagreement(apart, "categorical")[0] == pytest.approx(1)
    assert disagreement(apart, "binary")[0] == pytest.approx(1)
    assert disagreement(np.array([[[1.0]], [[3.0]]]), "real")[0] == pytest.approx(1)
