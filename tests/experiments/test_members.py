"""Models with several members: estimators and networks that are compared out of fold and combined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import polymodal
from laws.text_checkpoints import text_checkpoint
from polymodal.applications.compression import compress
from polymodal.core.errors import PolymodalError, RecipeError
from polymodal.model.model import Model
from polymodal.model.size import weights_bytes

COMPUTE = {"training.num_threads": 1, "training.precision": "fp32", "evaluation.bootstrap_samples": 0}
ROWS = 240


def shop(seed: int = 0, rows: int = ROWS) -> dict[str, list[Any]]:
    """A class that follows a number, a category and a word, each of which is missing at times; and noise."""
    draw = np.random.default_rng(seed)
    size, color, word = draw.normal(size=rows), draw.integers(0, 3, rows), draw.integers(0, 2, rows)
    score = 1.5 * size + 1.5 * (color == 1) - 1.5 * word + 0.5 * draw.normal(size=rows)
    gap = draw.random((3, rows)) < 0.05
    said = [
        ["a sturdy box with a lid", "a fragile vase made of glass"][one] + f" number {n % 7}"
        for n, one in enumerate(word)
    ]
    return {
        "size": [None if gap[0, n] else float(one) for n, one in enumerate(size)],
        "color": [None if gap[1, n] else ["red", "green", "blue"][one] for n, one in enumerate(color)],
        "about": [None if gap[2, n] else said[n] for n in range(rows)],
        "noise": draw.normal(size=rows).tolist(),
        "kind": ["dear" if one > 0 else "cheap" for one in score],
        "price": (score + 10).tolist(),
    }


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A fast model of the class, and its directory."""
    folder = tmp_path_factory.mktemp("members") / "model"
    settings = {**COMPUTE, "data.ignore_columns": ["price"]}
    return polymodal.fit(shop(), "kind", quality="fast", settings=settings, out=folder), folder


def test_a_fast_model_beats_every_constant_and_has_no_network(fast: tuple[Model, Path]) -> None:
    model, _ = fast
    score = model.metrics["test"]["kind"]["accuracy"]
    assert score["value"] >= score["baseline"] + 0.2
    assert not model.has_network
    with pytest.raises(RecipeError, match="no network"):
        model.embed(shop(rows=2))


def test_new_rows_are_predicted_as_well_as_the_score_says(fast: tuple[Model, Path]) -> None:
    model, _ = fast
    new = shop(seed=1, rows=600)
    accuracy = np.mean([a == b for a, b in zip(model.predict(new), new["kind"], strict=True)])
    assert accuracy >= 0.8


def test_a_saved_model_predicts_the_same_to_the_bit(fast: tuple[Model, Path]) -> None:
    model, folder = fast
    rows = shop(seed=2, rows=30)
    loaded = polymodal.load(folder)
    np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
    one = {name: values[3] for name, values in rows.items()}
    np.testing.assert_allclose(loaded.predict_proba(one)[0], model.predict_proba(rows)[3], atol=1e-6)


def test_a_saved_model_has_only_the_inputs_that_its_members_read(tmp_path: Path) -> None:
    """A frozen checkpoint that reads noise is neither saved nor loaded."""
    draw = np.random.default_rng(0)
    sizes = draw.normal(size=160)
    words = ["red", "green", "blue", "small", "large"]
    table = {
        "size": sizes.tolist(),
        "about": [" ".join(draw.choice(words, 4)) for _ in sizes],
        "kind": ["dear" if size > 0 else "cheap" for size in sizes],
    }
    checkpoint = {"name": "pretrained_text", "checkpoint": text_checkpoint("bert"), "fine_tuning": "freeze"}
    settings = {**COMPUTE, "inputs.about.encoder": checkpoint}
    model = polymodal.fit(table, "kind", quality="fast", settings=settings, out=tmp_path / "model")
    assert model.ensemble is not None
    assert model.ensemble.read_inputs() == {"size"}
    assert not load_file(tmp_path / "model" / "model.safetensors")
    arrays = load_file(tmp_path / "model" / "members.safetensors")
    assert not [name for name in arrays if name.startswith("features/about/")]
    loaded = polymodal.load(tmp_path / "model")
    assert isinstance(loaded, Model)
    np.testing.assert_array_equal(loaded.predict_proba(table), model.predict_proba(table))
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(polymodal.load(tmp_path / "again").predict_proba(table), model.predict_proba(table))
    assert weights_bytes(loaded) == weights_bytes(model)


def test_every_member_is_on_the_leaderboard(fast: tuple[Model, Path]) -> None:
    model, folder = fast
    rows = model.leaderboard()
    names = [row.member for row in rows]
    assert {"linear", "gradient_boosting", "linear: about", "linear: numbers"} <= set(names)
    assert [row.loss for row in rows] == sorted(row.loss for row in rows)
    assert sum(row.weight for row in rows) == pytest.approx(1)
    assert polymodal.load(folder).leaderboard() == rows
    assert all(name in (folder / "report.html").read_text() for name in names)


def test_all_rows_are_predicted_without_their_inputs(fast: tuple[Model, Path]) -> None:
    model, _ = fast
    empty = {name: [None, None] for name in ("size", "color", "about", "noise")}
    probabilities = model.predict_proba(empty)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    found = model.robustness(shop(seed=3, rows=60))["kind"]
    assert found.removed["about"].value < found.value


def test_the_unimodal_scores_are_those_of_members_of_one_input(fast: tuple[Model, Path]) -> None:
    model, _ = fast
    unimodal = model.metrics["test"]["kind"]["accuracy"]["unimodal"]
    assert set(unimodal) == set(model.recipe.inputs)
    assert max(unimodal.values()) <= model.metrics["test"]["kind"]["accuracy"]["value"] + 0.05


def test_a_target_of_noise_is_not_learned() -> None:
    draw = np.random.default_rng(0)
    rows = shop() | {"kind": draw.choice(["a", "b"], ROWS).tolist()}
    model = polymodal.fit(rows, "kind", quality="fast", settings={**COMPUTE, "data.ignore_columns": ["price"]})
    best = model.leaderboard()[0].loss
    assert best >= 0.95 * np.log(2)  # the loss of the constant prediction, which a search may beat by chance


def test_numbers_are_predicted_in_the_units_of_the_table() -> None:
    model = polymodal.fit(shop(), "price", quality="fast", settings={**COMPUTE, "data.ignore_columns": ["kind"]})
    assert model.metrics["test"]["price"]["r2"]["value"] > 0.6
    assert np.mean(model.predict(shop(seed=4))) == pytest.approx(10, abs=0.5)


@pytest.fixture(scope="module")
def with_network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """Two targets; a linear model that reads noise, so that the networks of two folds predict."""
    folder = tmp_path_factory.mktemp("networks") / "model"
    settings = {
        **COMPUTE,
        "members": [{"name": "linear", "inputs": ["noise"]}],
        "network": True,
        "ensemble.folds": 2,
        "training.epochs": 8,
        "training.learning_rate": 0.01,
        "hidden_size": 16,
    }
    recipe = {"inputs": {"size": "number", "noise": "number", "color": "category"}}
    return polymodal.fit(shop(), ["kind", "price"], recipe=recipe, settings=settings, out=folder), folder


def test_networks_of_the_folds_are_averaged(with_network: tuple[Model, Path]) -> None:
    model, folder = with_network
    assert model.ensemble is not None
    assert len(model.ensemble.networks) == 2
    assert "the member 'network' is the mean of 2 networks, each trained without one fold" in model.run.notices
    assert model.leaderboard("kind")[0].member == "network"
    loaded = polymodal.load(folder)
    rows = shop(seed=5, rows=20)
    for output, values in model.predict_proba(rows).items():
        np.testing.assert_array_equal(loaded.predict_proba(rows)[output], values)
    assert loaded.embed(rows).shape[0] == 20


def test_a_complete_run_is_only_read_when_it_is_resumed(with_network: tuple[Model, Path]) -> None:
    model, folder = with_network
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = polymodal.fit(shop(), ["kind", "price"], recipe=folder / "recipe.yaml", out=folder, resume=True)
    assert again.leaderboard("price") == model.leaderboard("price")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == files


def test_a_model_with_members_is_not_compressed(with_network: tuple[Model, Path]) -> None:
    with pytest.raises(PolymodalError, match="members beside a network"):
        compress(with_network[0], shop(), dtype="bf16")


def test_a_model_with_members_teaches_a_network(fast: tuple[Model, Path]) -> None:
    settings = {**COMPUTE, "training.epochs": 10, "training.learning_rate": 0.01, "hidden_size": 16}
    settings |= {"training.distillation.teacher": str(fast[1]), "data.ignore_columns": ["price"]}
    student = polymodal.fit(shop(), "kind", settings=settings)
    assert student.ensemble is None
    new = shop(seed=6)
    agreement = np.mean([a == b for a, b in zip(student.predict(new), fast[0].predict(new), strict=True)])
    assert agreement > 0.75


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"quality": "fast", "outputs": {"about": "text_generation"}}, "quality"),
        ({"members": ["linear"], "training.pseudo_labels.rounds": 1, "outputs": {"kind": "classification"}}, "members"),
        ({"members": [], "network": False, "quality": "fast", "outputs": {"kind": "classification"}}, "network"),
        ({"members": ["linaer"], "outputs": {"kind": "classification"}}, "members.0"),
        ({"members": [{"name": "linear", "inputs": ["colour"]}], "outputs": {"kind": "classification"}}, "members.0"),
    ],
)
def test_a_recipe_that_cannot_have_these_members_is_refused(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(RecipeError) as raised:
        polymodal.fit(shop(rows=40), settings=settings)
    assert raised.value.path.startswith(path)
