"""What each command does with a model that has several members, and what it says if it cannot use one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import polymodal
from polymodal.applications.active_learning.suggest import suggest
from polymodal.applications.curation.curate import CurationOptions, curate
from polymodal.cli.commands import app
from polymodal.core.errors import RecipeError
from polymodal.model.model import Model
from polymodal.workflows.sklearn import PolymodalClassifier, PolymodalRegressor

SETTINGS = {"training.num_threads": 1, "training.precision": "fp32", "evaluation.bootstrap_samples": 0}
SMALL = {"training.epochs": 4, "hidden_size": 8, "evaluation.unimodal_scores": "none"}


def rows(count: int, seed: int) -> dict[str, list[Any]]:
    """A class and a number that follow a number and a word."""
    draw = np.random.default_rng(seed)
    size, dear = draw.normal(size=count), draw.random(count) < 0.5
    score = size + 1.5 * dear + 0.3 * draw.normal(size=count)
    return {
        "size": size.tolist(),
        "about": [f"a {'fine' if one else 'plain'} thing {n % 5}" for n, one in enumerate(dear)],
        "kind": np.where(score > 0.75, "yes", "no").tolist(),
        "price": score.tolist(),
    }


def without_targets(table: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: table[name] for name in ("size", "about")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A model of two linear members of one input each, which predict both outputs together."""
    folder = tmp_path_factory.mktemp("members") / "model"
    settings = {
        **SETTINGS,
        "members": [{"name": "linear", "inputs": ["size"]}, {"name": "linear", "inputs": ["about"]}],
        "network": False,
        "evaluation.bootstrap_samples": 100,
    }
    recipe = {"inputs": {"size": "number", "about": "text"}}
    return polymodal.fit(rows(200, 0), ["kind", "price"], recipe=recipe, settings=settings, out=folder), folder


@pytest.mark.parametrize("strategy", ["mixed", "margin", "entropy", "least_confident", "badge"])
def test_rows_near_the_decision_boundary_are_suggested(model: tuple[Model, Path], strategy: Any) -> None:
    pool = without_targets(rows(150, 7))
    found, again = (suggest(model[0], pool, 12, strategy=strategy, output="kind", seed=3) for _ in range(2))
    assert found == again
    assert len(set(found.rows)) == 12
    unsure = np.abs(model[0].predict_proba(pool)["kind"][:, 0] - 0.5)
    assert unsure[found.rows].mean() < 0.7 * unsure.mean()


@pytest.mark.parametrize("output", ["kind", "price"])
def test_the_members_of_a_model_are_a_committee(model: tuple[Model, Path], output: str) -> None:
    """The members read one input each, so they disagree where the inputs say opposite things."""
    pool = without_targets(rows(150, 7))
    found = suggest(model[1], pool, 12, strategy="committee", output=output)
    assert found.suggestions[0].reason.startswith("members")
    says = np.array([1 if "fine" in text else -1 for text in pool["about"]])
    agreement = np.sign(pool["size"]) * says
    assert agreement[found.rows].mean() < agreement.mean() - 0.5


@pytest.mark.parametrize("strategy", ["coreset", "typical"])
def test_vectors_of_a_model_without_a_network_tell_rows_apart(model: tuple[Model, Path], strategy: Any) -> None:
    """Two clusters by the words: rows of both are suggested, and a copy of a row is not."""
    pool = without_targets(rows(60, 7))
    pool = {name: cells + cells[:1] for name, cells in pool.items()}
    found = suggest(model[0], pool, 6, strategy=strategy)
    assert {"fine" in pool["about"][row] for row in found.rows} == {True, False}
    assert not {0, 60} <= set(found.rows)


def test_a_single_member_is_no_committee() -> None:
    settings = {**SETTINGS, "members": ["linear"], "network": False, "data.ignore_columns": ["price"]}
    alone = polymodal.fit(rows(60, 0), "kind", settings=settings)
    with pytest.raises(RecipeError, match="several members"):
        suggest(alone, without_targets(rows(20, 1)), 2, strategy="committee")
    both = polymodal.ensemble([alone, alone])
    assert len(suggest(both, without_targets(rows(20, 1)), 2, strategy="committee")) == 2


def test_what_needs_embeddings_says_how_to_get_a_network(model: tuple[Model, Path], tmp_path: Path) -> None:
    folder, table = str(model[1]), tmp_path / "rows.jsonl"
    cells = rows(20, 1)
    table.write_text("".join(json.dumps({k: v[n] for k, v in cells.items()}) + "\n" for n in range(20)))
    commands = [
        ["index", str(table), "--model", folder, "--out", str(tmp_path / "index")],
        ["few-shot", folder, str(table), "--target", "kind", "--out", str(tmp_path / "head")],
        ["curate", str(table), "--model", folder, "--out", str(tmp_path / "curated"), "--find", "duplicates"],
    ]
    for command in commands:
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, RecipeError), (command, result.output, result.exception)
        assert "members=[]" in str(result.exception)
    with pytest.raises(RecipeError, match="no network"):
        model[0].embed(cells)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]
    with pytest.raises(RecipeError, match="no network"):
        curate(model[0], cells, CurationOptions(find=["duplicates"]))


def test_a_training_cannot_continue_a_model_without_a_network_nor_does_one_generate(
    model: tuple[Model, Path],
) -> None:
    with pytest.raises(RecipeError, match="without a network") as raised:
        polymodal.fit(rows(40, 0), "kind", init_from=model[1], settings=SETTINGS | SMALL)
    assert raised.value.path == "training.init_from"
    for use in (model[0].generate, model[0].transcribe):
        with pytest.raises(RecipeError, match="the model has none"):
            use(rows(2, 0))


def test_a_training_continues_the_first_of_several_networks(tmp_path: Path) -> None:
    """The linear member reads noise, so the networks of two folds predict."""
    recipe = {"inputs": {"size": "number", "noise": "number"}}
    data = rows(240, 0) | {"noise": np.random.default_rng(5).normal(size=240).tolist()}
    members = {"members": [{"name": "linear", "inputs": ["noise"]}], "network": True, "ensemble.folds": 2}
    settings = SETTINGS | {"hidden_size": 16, "training.learning_rate": 0.01, "evaluation.unimodal_scores": "none"}
    trained = settings | members | {"training.epochs": 8}
    start = polymodal.fit(data, "kind", recipe=recipe, settings=trained, out=tmp_path / "start")
    assert start.ensemble is not None
    assert len(start.ensemble.networks) == 2
    going_on = settings | {"training.epochs": 0, "members": []}
    found = polymodal.fit(data, "kind", init_from=tmp_path / "start", recipe=recipe, settings=going_on)
    new = {name: data[name][:20] for name in ("size", "noise")}
    np.testing.assert_allclose(found.embed(new), start.embed(new), atol=1e-5)


def test_models_with_and_without_members_are_compared(model: tuple[Model, Path]) -> None:
    settings = {**SETTINGS, "members": [{"name": "linear", "inputs": ["size"]}], "network": False}
    recipe = {"inputs": {"size": "number", "about": "text"}}
    other = polymodal.fit(rows(200, 0), ["kind", "price"], recipe=recipe, settings=settings)
    assert set(other.metrics["test"]["price"]["r2"]["unimodal"]) == {"size", "about"}
    found = polymodal.compare(model[0], other, rows(200, 5))
    assert found["price"]["r2"]["difference"] > 0.05
    assert found["price"]["r2"]["p_value"] < 0.05


def test_members_are_cross_validated() -> None:
    data = without_targets(rows(200, 0)) | {"kind": rows(200, 0)["kind"]}
    settings = {**SETTINGS, "members": ["linear"], "network": False, "evaluation.unimodal_scores": "train"}
    found = polymodal.cross_validate(data, "kind", settings=settings, folds=2)
    score = found.scores["kind"]["accuracy"]
    assert score["value"] > score["baseline"] + 0.2
    assert set(score["unimodal"]) == {"size", "about"}
    assert max(score["unimodal"].values()) < score["value"]


def test_scikit_learn_estimators_have_members() -> None:
    from sklearn.base import clone

    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 3))
    y = np.where(x[:, 0] + x[:, 1] > 0, "b", "a")
    settings = {**SETTINGS, "members": ["linear"], "network": False}
    classifier = clone(PolymodalClassifier(settings=settings, random_state=0)).fit(x[:90], y[:90])
    assert not classifier.model_.has_network
    assert classifier.score(x[90:], y[90:]) > 0.9
    regressor = PolymodalRegressor(settings=settings, random_state=0).fit(x[:90], x[:90, 0] - x[:90, 2])
    assert regressor.score(x[90:], x[90:, 0] - x[90:, 2]) > 0.95


def test_the_gain_of_multitask_training_is_that_of_networks() -> None:
    result = polymodal.multitask_gain(rows(60, 0), ["kind", "price"], settings=SETTINGS | SMALL)
    assert result.recipe.members == []
    with pytest.raises(RecipeError, match="networks only") as raised:
        polymodal.multitask_gain(rows(60, 0), ["kind", "price"], settings=SETTINGS | {"quality": "fast"})
    assert raised.value.path == "quality"
