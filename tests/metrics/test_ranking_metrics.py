"""AUROC and average precision equal scikit-learn's, with weights, ties and classes that do not occur."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from polymodal.metrics import ranking as ours

ROWS = 300


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("decimals", [1, 16])
def test_binary(rng: np.random.Generator, decimals: int) -> None:
    truth = rng.integers(2, size=ROWS)
    score = np.round(rng.random(ROWS) * 0.8 + truth * 0.2, decimals)
    weight = rng.integers(0, 3, size=ROWS).astype(float)
    distribution = np.stack([1 - score, score], axis=1)
    area = reference.roc_auc_score(truth, score, sample_weight=weight)
    precision = reference.average_precision_score(truth, score, sample_weight=weight)
    assert ours.roc_auc(distribution, truth, weight) == pytest.approx(area, rel=1e-12)
    assert ours.average_precision(distribution, truth, weight) == pytest.approx(precision, rel=1e-12)


def test_one_against_the_rest(rng: np.random.Generator) -> None:
    distribution, truth, weight = (
        rng.dirichlet(np.ones(4), ROWS),
        rng.integers(4, size=ROWS),
        rng.random(ROWS),
    )
    area = reference.roc_auc_score(truth, distribution, multi_class="ovr", sample_weight=weight)
    precision = reference.average_precision_score(truth, distribution, sample_weight=weight)
    assert ours.roc_auc(distribution, truth, weight) == pytest.approx(area, rel=1e-12)
    assert ours.average_precision(distribution, truth, weight) == pytest.approx(precision, rel=1e-12)


def test_absent_classes_are_left_out(rng: np.random.Generator) -> None:
    distribution, truth, weight = (
        rng.dirichlet(np.ones(4), ROWS),
        rng.integers(3, size=ROWS),
        rng.random(ROWS),
    )
    area = np.mean([reference.roc_auc_score(truth == c, distribution[:, c], sample_weight=weight) for c in range(3)])
    assert ours.roc_auc(distribution, truth, weight) == pytest.approx(area, rel=1e-12)


def test_multilabel(rng: np.random.Generator) -> None:
    truth, distribution = (rng.random((ROWS, 3)) < 0.3).astype(np.uint8), rng.random((ROWS, 3))
    weight = rng.random(ROWS)
    area = reference.roc_auc_score(truth, distribution, sample_weight=weight)
    precision = reference.average_precision_score(truth, distribution, sample_weight=weight)
    assert ours.roc_auc(distribution, truth, weight) == pytest.approx(area, rel=1e-12)
    assert ours.average_precision(distribution, truth, weight) == pytest.approx(precision, rel=1e-12)


def test_by_hand() -> None:
    score = np.array([0.9, 0.8, 0.8, 0.1])
    distribution, truth, weight = np.stack([1 - score, score], 1), np.array([1, 0, 1, 0]), np.ones(4)
    assert ours.roc_auc(distribution, truth, weight) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert ours.average_precision(distribution, truth, weight) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_constant_answer_has_the_area_one_half_and_the_precision_of_the_share() -> None:
    distribution, truth = np.full((10, 2), 0.5), np.array([1] * 3 + [0] * 7)
    assert ours.roc_auc(distribution, truth, np.ones(10)) == pytest.approx(0.5)
    assert ours.average_precision(distribution, truth, np.ones(10)) == pytest.approx(0.3)


def test_undefined_is_nan_without_a_warning() -> None:
    distribution = np.full((4, 2), 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(ours.roc_auc(distribution, np.ones(4, int), np.ones(4)))
        assert math.isnan(ours.average_precision(distribution, np.zeros(4, int), np.ones(4)))
        assert math.isnan(ours.roc_auc(distribution, np.array([0, 1, 0, 1]), np.array([1.0, 0, 1, 0])))
        assert math.isnan(ours.roc_auc(distribution[:0], np.ones(0, int), np.ones(0)))


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_prepared_scores_follow_the_weights(rng: np.random.Generator, name: str) -> None:
    distribution, truth = np.round(rng.dirichlet(np.ones(3), 60), 1), rng.integers(3, size=60)
    prepared = getattr(ours, f"prepared_{name}")(distribution, truth)
    for _ in range(20):
        drawn = np.bincount(rng.integers(60, size=60), minlength=60)
        repeated = np.repeat(np.arange(60), drawn)
        expected = getattr(ours, name)(distribution[repeated], truth[repeated], np.ones(60))
        assert prepared(drawn.astype(float)) == pytest.approx(expected, rel=1e-12)


def test_fractional_weights_on_one_class_only_are_undefined() -> None:
    distribution, truth = np.random.default_rng(0).dirichlet([1, 1], 50), np.arange(50) % 2
    weight = np.where(truth == 1, 0.1, 0.0)
    assert math.isnan(ours.roc_auc(distribution, truth, weight))
