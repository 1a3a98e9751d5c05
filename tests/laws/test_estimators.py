"""Laws of estimators: each learns a planted signal, finds none in noise, and predicts each row by itself."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from laws.estimators import SPACES, estimator, folds_of, noise_target, planted_target, sample_features
from polymodal.core.errors import PolymodalError
from polymodal.core.registry import components
from polymodal.core.types import Space
from polymodal.estimators.base import Estimator, EstimatorState, EstimatorTarget, Fold
from polymodal.estimators.lightgbm_library import load_lightgbm
from polymodal.estimators.penalized_models import row_losses
from polymodal.features.feature_table import FeatureBlock, FeatureTable

ROWS = 240
CASES = [(name, space) for name, one in components("estimator").items() for space in SPACES if space in one.spaces]
each_estimator = pytest.mark.parametrize(("name", "space"), CASES)
#: Estimators for which a row of weight 2 equals the row twice.
EXACT_WEIGHTS = ("linear", "kernel")
#: The part of the skill that is left with 20 noise columns; 0.4 of others.
SHARE_WITH_NOISE = {"linear": 0.7, "kernel": 0.6}


@cache
def fitted(name: str, space: Space) -> tuple[Estimator, np.ndarray, FeatureTable, EstimatorTarget]:
    """An estimator of the planted target, with its held-out predictions."""
    features = sample_features(ROWS)
    target = planted_target(features, space)
    model = estimator(name)
    held_out = model.cross_fit(features, target, folds_of(ROWS))
    return model, held_out, features, target


def skill(raw: np.ndarray, target: EstimatorTarget) -> float:
    """The part of the loss of the constant prediction that is removed: 1 is perfect, 0 is the constant prediction."""
    constant = np.tile(target.constant(), (len(target), 1))
    return 1 - float(row_losses(raw, target).mean() / row_losses(constant, target).mean())


@each_estimator
def test_a_planted_signal_is_learned(name: str, space: Space) -> None:
    model, held_out, _, target = fitted(name, space)
    new = sample_features(300, seed=7)
    assert held_out.dtype == np.float32
    assert held_out.shape == (ROWS, target.size)
    assert skill(held_out, target) > 0.15
    assert skill(model.predict(new), planted_target(new, space)) > 0.15


@each_estimator
def test_noise_gives_no_skill(name: str, space: Space) -> None:
    target = noise_target(ROWS, space)
    model, features = estimator(name), sample_features(ROWS)
    assert abs(skill(model.cross_fit(features, target, folds_of(ROWS)), target)) < 0.06
    new = noise_target(400, space, seed=5)
    assert skill(model.predict(sample_features(400, seed=6)), new) > -0.1


@each_estimator
def test_saved_and_loaded_is_equal(name: str, space: Space) -> None:
    model, _, features, _ = fitted(name, space)
    state = model.save()
    assert all(isinstance(one, np.ndarray) and one.dtype != object for one in state.arrays.values())
    other = estimator(name)
    other.load(EstimatorState({key: value.copy() for key, value in state.arrays.items()}, dict(state.texts)))
    np.testing.assert_array_equal(other.predict(features), model.predict(features))


@each_estimator
def test_incomplete_state_is_refused(name: str, space: Space) -> None:
    with pytest.raises((KeyError, ValueError)):
        estimator(name).load(EstimatorState())


@each_estimator
def test_the_same_seed_gives_the_same_model(name: str, space: Space) -> None:
    model, held_out, features, target = fitted(name, space)
    other = estimator(name)
    np.testing.assert_array_equal(other.cross_fit(features, target, folds_of(ROWS)), held_out)
    np.testing.assert_array_equal(other.predict(features), model.predict(features))


@each_estimator
def test_a_row_is_predicted_by_itself(name: str, space: Space) -> None:
    model, _, features, _ = fitted(name, space)
    together = model.predict(features)
    for rows in (np.array([3]), np.array([5, 5, 0]), np.arange(0, ROWS, 2)[::-1]):
        np.testing.assert_allclose(model.predict(features.take(rows)), together[rows], rtol=1e-4, atol=1e-5)
    assert model.predict(features.take(np.zeros(0, int))).shape == (0, together.shape[1])


@each_estimator
def test_all_features_may_be_missing(name: str, space: Space) -> None:
    model, _, features, _ = fitted(name, space)
    empty = FeatureTable(
        {key: tuple(one.take(np.array([-1, -1])) for one in some) for key, some in features.blocks.items()},
        {key: np.zeros(2, bool) for key in features.present},
    )
    raw = model.predict(empty)
    assert np.isfinite(raw).all()
    np.testing.assert_array_equal(raw[0], raw[1])


@each_estimator
def test_an_input_without_a_known_value_in_training(name: str, space: Space) -> None:
    features = sample_features(30)
    target = planted_target(features, space)
    blank = {key: tuple(one.take(np.full(30, -1)) for one in some) for key, some in features.blocks.items()}
    table = FeatureTable(blank, {key: np.zeros(30, bool) for key in features.present})
    model = estimator(name)
    assert np.isfinite(model.cross_fit(table, target, folds_of(30, 2))).all()
    np.testing.assert_allclose(model.predict(features), np.tile(target.constant(), (30, 1)), atol=0.05)


@each_estimator
def test_few_rows(name: str, space: Space) -> None:
    """Four rows, with one class, one label and one number missing from the training rows of a fold."""
    features = sample_features(4)
    values = {"categorical": np.array([0, 0, 1, 2]), "binary": np.array([[0, 1], [0, 1], [1, 1], [1, 0]], float)}
    target = replace(planted_target(features, space), values=values.get(space, np.ones((4, 2))))
    model = estimator(name)
    held_out = model.cross_fit(features, target, [Fold(np.array([0, 1]), np.array([2, 3]))])
    assert np.isnan(held_out[:2]).all()
    assert np.isfinite(held_out[2:]).all()
    assert np.isfinite(model.predict(sample_features(3, seed=3))).all()


@pytest.mark.parametrize("name", [name for name, space in CASES if space == "categorical"])
def test_a_class_absent_from_the_training_rows_of_a_fold(name: str) -> None:
    features = sample_features(60)
    target = replace(planted_target(features, "categorical"), values=np.array([2] * 20 + [0, 1] * 20))
    held_out = estimator(name).cross_fit(
        features, target, [Fold(np.arange(20, 60), np.arange(20)), Fold(np.arange(40), np.arange(40, 60))]
    )
    held_out = held_out[np.r_[:20, 40:60]]
    shares = np.exp(held_out - np.logaddexp.reduce(held_out, axis=1, keepdims=True))
    assert np.isfinite(held_out).all()
    assert (shares[:20, 2] < 0.2).all()


@each_estimator
def test_noise_columns_cost_little(name: str, space: Space) -> None:
    _, held_out, features, target = fitted(name, space)
    noise = np.random.default_rng(3).normal(size=(ROWS, 20)).astype(np.float32)
    blocks = {**features.blocks, "noise": (FeatureBlock("number", noise),)}
    wider = FeatureTable(blocks, {**features.present, "noise": np.ones(ROWS, bool)})
    found = estimator(name).cross_fit(wider, target, folds_of(ROWS))
    assert skill(found, target) > SHARE_WITH_NOISE.get(name, 0.4) * skill(held_out, target)


@each_estimator
def test_weights_count_rows(name: str, space: Space) -> None:
    """A row of weight 2 equals the row twice where that is exact; a large weight always draws the predictions."""
    if name not in EXACT_WEIGHTS:
        pytest.skip("limits on the rows of a leaf or of a kernel count rows, not weights")
    features = sample_features(60)
    target = planted_target(features, space)
    twice = np.r_[0:60, 0:30]
    place = {row: np.flatnonzero(twice == row) for row in range(60)}
    folds = folds_of(60)
    spread = [
        Fold(*(np.concatenate([place[row] for row in part]) for part in (fold.train, fold.held_out))) for fold in folds
    ]
    weighted, repeated = estimator(name), estimator(name)
    weighted.cross_fit(features, replace(target, weight=np.r_[np.full(30, 2.0), np.ones(30)]), folds)
    repeated.cross_fit(features.take(twice), target.take(twice), spread)
    np.testing.assert_allclose(repeated.predict(features), weighted.predict(features), rtol=0.02, atol=0.02)


@each_estimator
def test_inputs_are_selected(name: str, space: Space) -> None:
    _, _, features, target = fitted(name, space)
    model = estimator(name, inputs=["in_number"])
    model.cross_fit(features, target, folds_of(ROWS))
    blocks = {**features.blocks, "in_text": (FeatureBlock("sparse", csr_matrix((ROWS, 40), dtype=np.float32)),)}
    np.testing.assert_array_equal(model.predict(features), model.predict(replace(features, blocks=blocks)))


def test_a_missing_system_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("polymodal.estimators.lightgbm_library.importlib.import_module", refuse)
    with pytest.raises(PolymodalError, match="apt-get install libgomp1"):
        load_lightgbm()
