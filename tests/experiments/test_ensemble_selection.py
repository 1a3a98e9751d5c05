"""Selection and weights of members on out-of-fold predictions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from polymodal.core.types import Space
from polymodal.estimators.base import EstimatorTarget
from polymodal.experiments.ensemble_selection import select_members
from polymodal.experiments.fit_calibration import fit_calibration, fit_scale, row_losses
from polymodal.recipe.ensemble import EnsembleOptions

OPTIONS = EnsembleOptions()


def numbers(rows: int = 400) -> tuple[EstimatorTarget, dict[str, np.ndarray]]:
    """Two members with independent errors, one with larger errors, and one that only guesses."""
    draw = np.random.default_rng(0)
    truth = draw.normal(size=(rows, 1))
    errors = {"first": 0.6, "second": 0.6, "worse": 0.9}
    values = {name: truth + size * draw.normal(size=(rows, 1)) for name, size in errors.items()}
    return EstimatorTarget("real", 1, truth, np.ones(rows)), values | {"guess": draw.normal(size=(rows, 1))}


def classes(rows: int = 600, sharpness: float = 1.0) -> tuple[EstimatorTarget, np.ndarray]:
    """Log-probabilities from which the classes were drawn, multiplied by `sharpness`."""
    draw = np.random.default_rng(1)
    values = log_softmax(2 * draw.normal(size=(rows, 3)), axis=1)
    truth = np.array([draw.choice(3, p=np.exp(row)) for row in values])
    return EstimatorTarget("categorical", 3, truth, np.ones(rows)), sharpness * values


def test_independent_errors_are_averaged_and_a_guess_is_left_out() -> None:
    target, values = numbers()
    found = select_members(values, target, OPTIONS)
    assert {"first", "second"} <= set(found.combination.weights)
    assert "guess" not in found.combination.weights
    assert found.loss < 0.8 * found.losses[found.best]
    assert sum(found.combination.weights.values()) == pytest.approx(1)


def test_a_copy_of_the_best_member_adds_nothing() -> None:
    target, values = numbers()
    found = select_members({"one": values["first"], "copy": values["first"]}, target, OPTIONS)
    assert not found.is_combined
    assert found.loss == found.losses["one"] == found.losses["copy"]


def test_a_gain_within_its_interval_is_not_enough() -> None:
    """On 12 rows the gain of an average is not certain; on all rows it is."""
    target, values = numbers()
    few = np.arange(12)
    strict = EnsembleOptions(confidence=0.999)
    found = select_members({name: one[few] for name, one in values.items()}, target.take(few), strict)
    assert not found.is_combined
    assert select_members(values, target, strict).is_combined


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_wrong_sharpness(sharpness: float) -> None:
    target, values = classes(sharpness=sharpness)
    assert fit_scale(values, target) * sharpness == pytest.approx(1, abs=0.2)


def test_sure_and_unsure_members_count_alike_after_calibration() -> None:
    target, values = classes()
    noise = np.random.default_rng(2).normal(size=values.shape)
    members = {"sure": 5 * (values + noise), "unsure": 0.2 * (values - noise)}
    found = select_members(members, target, OPTIONS)
    assert set(found.combination.weights) == {"sure", "unsure"}
    combined = found.combination.combine(members, "categorical")
    assert float(row_losses(combined, target).mean()) == pytest.approx(found.loss, rel=1e-5)


@pytest.mark.parametrize("space", ["categorical", "binary", "real"])
def test_a_row_of_weight_two_counts_as_two_rows(space: Space) -> None:
    draw = np.random.default_rng(3)
    truth = draw.integers(0, 2, 60) if space == "categorical" else draw.integers(0, 2, (60, 2)).astype(float)
    values = {name: draw.normal(size=(60, 2)) for name in ("a", "b")}
    weight = np.where(np.arange(60) < 20, 2.0, 1.0)
    twice = np.concatenate([np.arange(60), np.arange(20)])
    weighted = EstimatorTarget(space, 2, truth, weight)
    repeated = EstimatorTarget(space, 2, truth[twice], np.ones(80))
    first = select_members(values, weighted, OPTIONS)
    second = select_members({name: one[twice] for name, one in values.items()}, repeated, OPTIONS)
    assert first.losses == pytest.approx(second.losses)
    assert first.best == second.best


def test_the_number_of_members_and_of_picks_is_limited() -> None:
    target, values = numbers()
    assert len(select_members(values, target, EnsembleOptions(max_members=2)).combination.weights) == 2
    assert not select_members(values, target, EnsembleOptions(max_members=1)).is_combined
    assert min(select_members(values, target, EnsembleOptions(max_picks=3)).combination.weights.values()) >= 1 / 3
    assert min(select_members(values, target, EnsembleOptions(max_picks=50)).combination.weights.values()) < 1 / 3


def uneven_confidence(rows: int, seed: int) -> tuple[EstimatorTarget, np.ndarray]:
    """The class of 5 is drawn from a softmax of values of one size, which a member multiplies by a size of the row, as
    a linear model does for long texts."""
    draw = np.random.default_rng(seed)
    values = log_softmax(1.5 * draw.normal(size=(rows, 5)), axis=1)
    truth = np.array([draw.choice(5, p=np.exp(row)) for row in values])
    return EstimatorTarget("categorical", 5, truth, np.ones(rows)), draw.lognormal(0, 0.8, (rows, 1)) * values


def calibration_error(values: np.ndarray, target: EstimatorTarget) -> float:
    """Expected calibration error of raw values, over 15 bins with equal numbers of rows."""
    probabilities = np.exp(log_softmax(values, axis=1))
    order = np.argsort(probabilities.max(1), kind="stable")
    excess = (probabilities.max(1) - (probabilities.argmax(1) == target.values))[order]
    return sum(abs(part.sum()) for part in np.array_split(excess, 15)) / len(excess)


def test_a_temperature_for_each_row_calibrates_rows_of_uneven_spread() -> None:
    target, values = uneven_confidence(1500, 0)
    new_target, new = uneven_confidence(6000, 1)
    by_row = fit_calibration(values, target, 0.9)
    single = fit_scale(values, target)
    assert -0.9 <= by_row.power < -0.5
    errors = [calibration_error(one, new_target) for one in (by_row.apply(new), single * new)]
    assert errors[0] < 0.03 < 0.05 < errors[1]
    assert row_losses(by_row.apply(new), new_target).mean() < row_losses(single * new, new_target).mean() - 0.02
    np.testing.assert_array_equal(by_row.apply(new).argmax(1), new.argmax(1))


def test_calibrated_values_keep_one_temperature() -> None:
    target, values = classes(rows=1000)
    assert fit_calibration(values, target, 0.9).power == 0
    same = np.tile(values[:1], (1000, 1))
    assert fit_calibration(same, target, 0.9).power == 0
