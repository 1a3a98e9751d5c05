"""The scikit-learn estimators keep scikit-learn's promises."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from polymodal.core.errors import RecipeError
from polymodal.datasets.planted import make_exclusive_or, make_mixed, make_planted_table
from polymodal.workflows.sklearn import PolymodalClassifier, PolymodalRegressor
from setting_lists import replaced

TINY = ["hidden_size=16", "training.epochs=6", "training.batch_size=16", "training.learning_rate=0.03"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "training goes in batches of rows: a row that is there twice is drawn twice and in other company than a row of "
        "weight 2, so the losses agree on average and not step by step"
    ),
}


@parametrize_with_checks(
    [PolymodalClassifier(settings=TINY), PolymodalRegressor(settings=TINY)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def frame(columns: dict[str, Any], *without: str) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({name: cells for name, cells in columns.items() if name not in without})


def test_a_mixed_frame_is_learned_and_scored() -> None:
    data = make_planted_table(200, seed=0)
    X = frame(data, "grade", "price")
    model = PolymodalClassifier(settings=replaced(TINY, "training.epochs=20")).fit(X[:150], data["grade"][:150])
    assert model.classes_.tolist() == ["large", "small"]
    assert list(model.feature_names_in_) == ["length", "weight", "maker", "useless"]
    assert set(model.model_.recipe.inputs) == {"numbers", "maker"}
    assert model.score(X[150:], data["grade"][150:]) > 0.85
    proba = model.predict_proba(X[150:])
    np.testing.assert_array_equal(model.predict(X[150:]), model.classes_[proba.argmax(1)])
    regressor = PolymodalRegressor(settings=replaced(TINY, "training.epochs=20")).fit(X[:150], data["price"][:150])
    assert regressor.score(X[150:], data["price"][150:]) > 0.9


def test_frames_of_every_kind_and_arrays_in_the_same_order_give_the_same_answers() -> None:
    data = make_planted_table(60, seed=0)
    X = frame(data, "grade", "price")
    model = PolymodalClassifier(settings=TINY).fit(X, data["grade"])
    wanted = model.predict_proba(X)
    polars = pytest.importorskip("polars")
    np.testing.assert_array_equal(model.predict_proba(polars.from_pandas(X)), wanted)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        np.testing.assert_array_equal(model.predict_proba(X.to_numpy(dtype=object)), wanted)


def test_cells_may_be_images_and_missing() -> None:
    data = make_mixed(40, seed=0, missing_ratio=0.2)
    X = frame(data, "answer")
    settings = [
        "hidden_size=16",
        "training.epochs=1",
        "inputs.score=number",
        "inputs.image=image",
        "inputs.question=text",
        "data.infer_other_columns=false",
    ]
    model = PolymodalClassifier(settings=settings).fit(X, data["answer"])
    assert set(model.model_.recipe.inputs) == {"image", "question", "score"}
    assert model.predict(X).shape == (40,)


def test_no_row_is_kept_from_training_but_the_validation_part() -> None:
    data = make_exclusive_or(100, seed=0)
    X = frame(data, "target")
    run = PolymodalClassifier(settings=TINY).fit(X, data["target"]).model_.run
    assert {name: part.rows for name, part in run.splits.items()} == {"train": 90, "validation": 10}


@pytest.mark.parametrize(("rows", "classes"), [(2, 2), (5, 3), (12, 12)])
def test_tables_too_small_to_divide_are_learned(rows: int, classes: int) -> None:
    X = np.random.default_rng(0).normal(size=(rows, 3))
    y = np.arange(rows) % classes
    model = PolymodalClassifier(settings=TINY).fit(X, y)
    assert model.predict_proba(X).shape == (rows, classes)
    assert np.isfinite(PolymodalRegressor(settings=TINY).fit(X, y).predict(X)).all()


def test_a_class_outside_the_training_part_has_probability_zero() -> None:
    generator = np.random.default_rng(0)
    X = frame({"x": generator.normal(size=40), "who": [f"p{i}" for i in np.repeat(np.arange(10), 4)]})
    settings = [*TINY, "data.split.group_column=who", "data.split.stratify=false", "seed=3"]
    for alone in range(10):  # the person that makes up the validation part is one of them
        rare = (np.arange(40) // 4 == alone) & (np.arange(40) % 4 > 0)  # three of the four rows
        y = np.where(rare, "rare", np.where(X["x"] > 0, "plus", "minus"))
        model = PolymodalClassifier(settings=settings).fit(X, y)
        proba = model.predict_proba(X)
        np.testing.assert_allclose(proba.sum(1), 1)
        if len(model.model_.classes) == 2:
            assert (proba[:, model.classes_ == "rare"] == 0).all()
            return
    pytest.fail("no person was the validation part")


def test_random_state_decides_the_weights() -> None:
    data = make_exclusive_or(60, seed=0)
    X, y = frame(data, "target"), data["target"]

    def proba(state: Any) -> np.ndarray:
        return PolymodalClassifier(settings=TINY, random_state=state).fit(X, y).predict_proba(X)

    np.testing.assert_array_equal(proba(4), proba(4))
    np.testing.assert_array_equal(proba(np.random.RandomState(4)), proba(4))
    assert not np.array_equal(proba(4), proba(5))
    from_recipe = PolymodalClassifier(settings=[*TINY, "seed=9"]).fit(X, y)
    assert from_recipe.model_.recipe.seed == 9
    assert clone(from_recipe).get_params() == from_recipe.get_params()


def test_rows_of_weight_zero_do_not_count() -> None:
    data = make_planted_table(60, seed=0)
    X, y = frame(data, "grade", "price"), np.array(data["grade"])
    weights = np.where(np.arange(60) < 40, 1.0, 0.0)
    some = PolymodalClassifier(settings=TINY).fit(X, y, sample_weight=weights)
    few = PolymodalClassifier(settings=TINY).fit(X[:40], y[:40], sample_weight=np.ones(40))
    np.testing.assert_array_equal(some.predict_proba(X), few.predict_proba(X))
    heavy = PolymodalClassifier(settings=TINY).fit(X, y, sample_weight=np.where(y == "large", 50.0, 1.0))
    even = PolymodalClassifier(settings=TINY).fit(X, y, sample_weight=np.ones(60))
    assert heavy.predict_proba(X)[:, 0].mean() > even.predict_proba(X)[:, 0].mean() + 0.05


def test_it_works_in_pipelines_searches_and_cross_validation() -> None:
    data = make_exclusive_or(90, seed=0)
    X, y = frame(data, "target").to_numpy(), np.array(data["target"])
    pipe = Pipeline([("scale", StandardScaler()), ("model", PolymodalClassifier(settings=TINY))])
    grid = {
        "model__settings": [
            replaced(TINY, "training.epochs=1", "training.learning_rate=0.00001"),
            replaced(TINY, "training.epochs=15"),
        ]
    }
    search = GridSearchCV(pipe, grid, cv=2).fit(X, y)
    assert search.best_params_["model__settings"][1] == "training.epochs=15"
    assert cross_val_score(pipe, X, y, cv=3, scoring="roc_auc").shape == (3,)


@pytest.mark.parametrize("kind", [PolymodalClassifier, PolymodalRegressor])
def test_a_pickled_copy_predicts_the_same_and_holds_files_not_objects(kind: Any) -> None:
    data = make_planted_table(60, seed=0)
    X, y = frame(data, "grade", "price"), data["grade" if kind is PolymodalClassifier else "price"]
    model = kind(settings=TINY).fit(X, y)
    state = model.__getstate__()["model_"]
    assert {"model.safetensors", "recipe.yaml", "preparation.json", "manifest.json"} <= set(state)
    assert all(isinstance(content, bytes) for content in state.values())
    back = pickle.loads(pickle.dumps(model))  # noqa: S301
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    assert back.model_.run == model.model_.run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["outputs.a=classification", "outputs.b=classification"], "one output"),
        (["outputs.target.task=regression"], "not the task"),
        (["outputs.length.task=classification"], "column of X"),
        (["data.split.column=maker"], "trains on all given rows"),
        (["inputs.nothing=number"], "nothing"),
    ],
)
def test_recipes_that_do_not_fit_an_estimator_are_refused(settings: list[str], message: str) -> None:
    data = make_planted_table(30, seed=0)
    with pytest.raises(RecipeError, match=message):
        PolymodalClassifier(settings=settings).fit(frame(data, "grade"), data["grade"])


def test_the_recipe_is_honoured() -> None:
    data = make_planted_table(60, seed=0)
    recipe = {
        "inputs": {"length": "number", "maker": "category"},
        "fusion": "gated",
        "outputs": {"grade": {"task": {"name": "classification", "class_weights": "balanced"}}},
    }
    model = PolymodalClassifier(recipe, settings=TINY).fit(frame(data, "grade", "price"), data["grade"])
    resolved = model.model_.recipe
    assert (resolved.fusion.name, list(resolved.inputs)) == ("gated", ["length", "maker"])
    assert resolved.outputs["grade"].task.class_weights == "balanced"
    with pytest.raises(NotFittedError):
        clone(model).predict(frame(data))
