"""A paired comparison detects a planted difference and does not detect one that is not there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from polymodal.evaluation.intervals import Resampling
from polymodal.evaluation.paired_bootstrap import mcnemar, paired_difference
from polymodal.metrics.base import Metric
from polymodal.metrics.classification import accuracy, log_loss

ACCURACY = Metric("accuracy", accuracy)


def decided(right: np.ndarray) -> np.ndarray:
    return np.eye(2)[right.astype(int)]


def test_a_planted_difference_is_detected() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(600)
    a, b = decided(hard < 0.80), decided(hard < 0.74)
    found = paired_difference(ACCURACY, a, b, np.ones(600, int), np.ones(600), Resampling(samples=500))
    assert 0 < found.low < found.value < found.high
    assert found.p_value < 0.01
    assert found.mcnemar is not None
    assert found.mcnemar < 0.01
    reverse = paired_difference(ACCURACY, b, a, np.ones(600, int), np.ones(600), Resampling(samples=500))
    assert reverse.value == pytest.approx(-found.value)
    assert reverse.p_value == found.p_value


def test_no_difference_is_seldom_detected() -> None:
    detected = exact = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        a, b = decided(rng.random(200) < 0.7), decided(rng.random(200) < 0.7)
        found = paired_difference(ACCURACY, a, b, np.ones(200, int), np.ones(200), Resampling(samples=100, seed=trial))
        detected += found.p_value < 0.05
        exact += found.mcnemar is not None and found.mcnemar < 0.05
    assert detected <= 13
    assert exact <= 11


def test_a_model_equals_itself() -> None:
    a = decided(np.arange(50) % 3 > 0)
    found = paired_difference(ACCURACY, a, a, np.ones(50, int), np.ones(50), Resampling(samples=50))
    assert (found.value, found.low, found.high, found.p_value, found.mcnemar) == (0, 0, 0, 1, 1)


def test_mcnemar_by_hand() -> None:
    truth, a_right = np.ones(20, int), np.arange(20) < 12
    b_right = (np.arange(20) >= 9) & (np.arange(20) < 13)  # 9 rows only a, 1 row only b
    expected = 2 * binom.cdf(1, 10, 0.5)
    assert mcnemar(decided(a_right), decided(b_right), truth, np.ones(20)) == pytest.approx(expected)
    weight = (np.arange(20) != 12).astype(float)  # without the only row that b alone gets right
    assert mcnemar(decided(a_right), decided(b_right), truth, weight) == pytest.approx(2 * 0.5**9)


def test_other_metrics_and_groups_have_no_mcnemar_and_groups_widen() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(15), 20)
    a, b = decided(rng.random(15)[groups] < 0.7), decided(rng.random(300) < 0.7)
    truth, weight = np.ones(300, int), np.ones(300)
    rows = paired_difference(ACCURACY, a, b, truth, weight, Resampling(samples=200))
    clusters = paired_difference(ACCURACY, a, b, truth, weight, Resampling(samples=200, groups=groups))
    assert clusters.high - clusters.low > 1.5 * (rows.high - rows.low)
    assert clusters.mcnemar is None
    smooth = paired_difference(
        Metric("log_loss", log_loss, False), 0.8 * a + 0.1, 0.8 * b + 0.1, truth, weight, Resampling(samples=50)
    )
    assert smooth.mcnemar is None
    assert np.isfinite(smooth.p_value)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_p_value_and_the_interval_agree(seed: int, clusters: bool) -> None:
    rng = np.random.default_rng(seed)
    a, b = decided(rng.random(60) < 0.8), decided(rng.random(60) < 0.6)
    groups = np.repeat(np.arange(12), 5) if clusters else None
    found = paired_difference(ACCURACY, a, b, np.ones(60, int), np.ones(60), Resampling(samples=60, groups=groups))
    assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
