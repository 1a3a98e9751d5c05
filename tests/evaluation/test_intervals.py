"""Bootstrap intervals cover a planted proportion, follow groups, and survive undefined resamples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.evaluation.intervals import Resampling, bootstrap, degrees_of_freedom, percentiles, resample_counts
from polymodal.metrics.base import POSITIVE, UNIT, Metric
from polymodal.metrics.classification import accuracy
from polymodal.metrics.ranking import roc_auc
from polymodal.metrics.regression import rmse

ACCURACY = Metric("accuracy", accuracy, bounds=UNIT)
RMSE = Metric("rmse", rmse, greater_is_better=False, bounds=POSITIVE)


def rows(right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distribution, truth and weight of a model that is right where `right` says so."""
    return np.eye(2)[right.astype(int)], np.ones(len(right), int), np.ones(len(right))


def test_intervals_cover_a_planted_proportion() -> None:
    rng, covered = np.random.default_rng(0), 0
    for trial in range(200):
        interval = bootstrap(
            ACCURACY, *rows(rng.random(150) < 0.7), Resampling(samples=200, confidence_level=0.9, seed=trial)
        )
        covered += interval.low <= 0.7 <= interval.high
    assert 0.82 <= covered / 200 <= 0.97


def test_the_interval_has_the_width_of_theory() -> None:
    right = np.arange(1000) < 800
    interval = bootstrap(ACCURACY, *rows(right), Resampling(samples=2000))
    assert interval.value == pytest.approx(0.8)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * math.sqrt(0.8 * 0.2 / 1000), rel=0.1)


def test_groups_are_drawn_whole_and_widen_the_interval() -> None:
    groups = np.repeat(np.arange(20), 50)
    right = np.random.default_rng(1).random(20)[groups] < 0.6
    for drawn in resample_counts(1000, 5, seed=0, groups=groups):
        assert (drawn.reshape(20, 50) == drawn[::50, None]).all()
    narrow = bootstrap(ACCURACY, *rows(right), Resampling(samples=300))
    wide = bootstrap(ACCURACY, *rows(right), Resampling(samples=300, groups=groups))
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


def test_weights_count_in_value_and_interval() -> None:
    distribution, truth, _ = rows(np.arange(100) < 50)
    weight = np.where(np.arange(100) < 50, 3.0, 1.0)
    interval = bootstrap(ACCURACY, distribution, truth, weight, Resampling(samples=200))
    assert interval.value == pytest.approx(0.75)
    assert interval.low < 0.75 < interval.high


def test_same_seed_same_interval() -> None:
    given = rows(np.arange(60) % 3 > 0)
    first, second, other = (bootstrap(ACCURACY, *given, Resampling(samples=50, seed=seed)) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_undefined_resamples_are_left_out_unless_they_are_the_most() -> None:
    truth, distribution = np.zeros(40, int), np.random.default_rng(0).dirichlet([1, 1], 40)
    truth[:2] = 1
    some = bootstrap(Metric("roc_auc", roc_auc, bounds=UNIT), distribution, truth, np.ones(40), Resampling(samples=200))
    assert some.low <= some.value <= some.high
    none = bootstrap(
        Metric("roc_auc", roc_auc, bounds=UNIT), distribution, np.zeros(40, int), np.ones(40), Resampling(samples=20)
    )
    assert all(math.isnan(number) for number in (none.value, none.low, none.high))
    assert math.isnan(percentiles(np.array([1.0, math.nan, math.nan]), 0.9)[0])


def test_without_samples_or_rows_there_are_no_bounds() -> None:
    interval = bootstrap(ACCURACY, *rows(np.ones(5, bool)), Resampling(samples=0))
    assert interval.value == 1
    assert math.isnan(interval.low)
    empty = bootstrap(ACCURACY, *rows(np.ones(0, bool)), Resampling(samples=10))
    assert math.isnan(empty.value)
    assert math.isnan(empty.high)


@pytest.mark.parametrize("clusters", [False, True])
def test_the_interval_of_an_rmse_covers(clusters: bool) -> None:
    """At n = 40, and for 10 clusters of 8 rows: 95 % of 200 draws, within three standard errors."""
    rng, covered = np.random.default_rng(2), 0
    for trial in range(200):
        error = rng.normal(size=40)
        if clusters:
            error = np.repeat(np.sqrt(0.4) * rng.normal(size=10), 8) + np.sqrt(0.6) * rng.normal(size=80)
        groups = np.repeat(np.arange(10), 8) if clusters else None
        truth, weight = np.zeros((len(error), 1)), np.ones(len(error))
        interval = bootstrap(RMSE, error[:, None], truth, weight, Resampling(samples=150, seed=trial, groups=groups))
        covered += interval.low <= 1 <= interval.high
    assert 0.90 <= covered / 200 <= 0.995


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=30), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_intervals_of_fractions_stay_within_their_bounds(right: list[float], weight_of_first: int) -> None:
    weight = np.ones(len(right))
    weight[0] = weight_of_first
    interval = bootstrap(ACCURACY, *rows(np.array(right))[:2], weight, Resampling(samples=30))
    if (weight > 0).sum() < 2:
        assert math.isnan(interval.low)
    else:
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.low < interval.high


def test_a_perfect_score_on_few_rows_is_not_certain() -> None:
    """The exact interval of n right answers in a row: the lower end x solves x^n = 2.5 %."""
    for units, groups in ((10, None), (5, np.repeat(np.arange(5), 2))):
        interval = bootstrap(ACCURACY, *rows(np.ones(10, bool)), Resampling(samples=50, groups=groups))
        assert (interval.value, interval.high) == (1, 1)
        assert interval.low == pytest.approx(0.025 ** (1 / units))
    one = bootstrap(ACCURACY, *rows(np.ones(10, bool)), Resampling(samples=50, groups=np.zeros(10, int)))
    assert math.isnan(one.low)


def test_a_few_large_errors_take_degrees_of_freedom() -> None:
    even, peak = np.arange(40.0), np.append(np.arange(39.0), 1000)
    assert degrees_of_freedom(even, 40) == 39
    assert degrees_of_freedom(peak, 40) < 5
    assert degrees_of_freedom(np.ones(40), 40) == 39
