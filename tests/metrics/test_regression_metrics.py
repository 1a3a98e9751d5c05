"""Regression metrics equal those of scikit-learn and SciPy; a weight of w counts as w rows."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as reference

from polymodal.metrics import regression as ours

NAMES = ["rmse", "mae", "r2", "spearman"]


def draw(targets: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    truth = np.round(rng.normal(size=(200, targets)) * np.arange(1, targets + 1), 1)
    return truth + rng.normal(size=truth.shape), truth, rng.integers(0, 4, size=200).astype(float)


@pytest.mark.parametrize("targets", [1, 3])
def test_equal_to_the_reference(targets: int) -> None:
    predicted, truth, weight = draw(targets)
    found = {name: getattr(ours, name)(predicted, truth, weight) for name in NAMES}
    repeated = weight.astype(int)
    expected = {
        "rmse": reference.root_mean_squared_error(truth, predicted, sample_weight=weight),
        "mae": reference.mean_absolute_error(truth, predicted, sample_weight=weight),
        "r2": reference.r2_score(truth, predicted, sample_weight=weight),
        "spearman": np.mean(
            [
                spearmanr(np.repeat(predicted[:, t], repeated), np.repeat(truth[:, t], repeated)).statistic
                for t in range(targets)
            ]
        ),
    }
    assert found == pytest.approx(expected, rel=1e-10)


def test_by_hand() -> None:
    predicted, truth = np.array([[1.0], [2.0], [6.0]]), np.array([[0.0], [2.0], [4.0]])
    weight = np.ones(3)
    assert ours.rmse(predicted, truth, weight) == pytest.approx(math.sqrt(5 / 3))
    assert ours.mae(predicted, truth, weight) == pytest.approx(1)
    assert ours.r2(predicted, truth, weight) == pytest.approx(1 - 5 / 8)
    assert ours.spearman(predicted, truth, weight) == pytest.approx(1)
    assert ours.spearman(-predicted, truth, weight) == pytest.approx(-1)


@pytest.mark.parametrize("name", NAMES)
def test_undefined_is_nan_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (0, 3):
            assert math.isnan(getattr(ours, name)(np.ones((rows, 2)), np.ones((rows, 2)), np.zeros(rows)))
        constant, varied = np.full((3, 1), 0.1), np.array([[1.0], [2.0], [3.0]])
        assert math.isnan(ours.r2(varied, constant, np.ones(3)))
        assert math.isnan(ours.spearman(constant, varied, np.ones(3)))
