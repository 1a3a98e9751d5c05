"""Options that change nothing in their run are refused; complete recipes stay valid; columns have one use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import polymodal
from polymodal.core.errors import RecipeError
from polymodal.generation.config import override_config
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.text_generation import TextGenerationTask
from polymodal.workflows.fit import plan_fit
from polymodal.workflows.sklearn import PolymodalClassifier

TABLE = {
    "length": [1.0, 2.5, 3.0, 4.5] * 10,
    "kind": ["a", "b", "c", "a"] * 10,
    "note": ["one word", "two words here", "none", "a few more words"] * 10,
    "weight": [1.0, 2.0] * 20,
    "y": ["yes", "no"] * 20,
}


def planned(recipe: dict[str, Any], *settings: str, **tables: Any) -> Recipe:
    target = None if recipe.get("outputs") else "y"
    return plan_fit(TABLE, target, recipe=recipe, settings=list(settings), **tables)[0].recipe


def test_the_message_names_the_key_and_what_it_needs_for_every_dead_key() -> None:
    dead = {"distillation": {"weight": 0.3}, "modality_balancing": {"alpha": 0.7}, "loss_balancing": "pcgrad"}
    with pytest.raises(RecipeError) as refused:
        planned({"training": dead})
    message = str(refused.value)
    assert "training.distillation.weight: it has no effect in this run, because it needs a teacher" in message
    assert "training.modality_balancing.alpha: it has no effect in this run, because it needs method: ogm" in message
    assert "training.loss_balancing: it has no effect in this run, because it needs several outputs" in message


def test_a_default_is_accepted_everywhere_and_so_is_a_complete_recipe() -> None:
    assert planned({"training": {"distillation": {"weight": 0.5}}})
    for size in ("tiny", "base"):
        complete = planned({"size": size, "inputs": {"note": "text"}, "fusion": "attention"})
        assert planned(complete.to_dict()) == complete
    without = planned({"data": {"ignore_columns": ["kind", "weight"]}})
    assert "kind" not in str(without.inputs)
    assert planned(without.to_dict()) == without


@pytest.mark.parametrize("key", ["size=small", "pretrained=starter"])
def test_a_key_for_unset_keys_is_refused_on_a_complete_recipe(key: str, tmp_path: Path) -> None:
    name = key.partition("=")[0]
    complete = planned({"inputs": {"length": "number", "kind": "category"}})
    file = tmp_path / "recipe.yaml"
    file.write_text(complete.to_yaml())
    with pytest.raises(RecipeError, match=name):
        plan_fit(TABLE, recipe=file, settings=[key])
    assert plan_fit(TABLE, recipe=file, settings=[f"{name}={getattr(complete, name)}"])[0].recipe == complete
    assert planned({}, "size=small").size == "small"


def test_given_tables_replace_the_split() -> None:
    for key in ("validation_size", "test_size"):
        assert planned({"data": {"split": {key: 0.3}}})
        with pytest.raises(RecipeError, match=f"data.split.{key}: it has no effect"):
            planned({"data": {"split": {key: 0.3}}}, validation=TABLE, test=TABLE)
    parts = {**TABLE, "part": ["train"] * 30 + ["validation"] * 5 + ["test"] * 5}
    with pytest.raises(RecipeError, match=r"data\.split\.column: it has no effect .* no validation or test table"):
        plan_fit(parts, "y", recipe={"data": {"split": {"column": "part"}}}, validation=TABLE)


@pytest.mark.parametrize("setting", ["data.split.test_size=0.3", "evaluation.bootstrap_samples=50"])
def test_an_estimator_refuses_what_it_would_override(setting: str) -> None:
    rows = [[number, number % 3] for number in range(20)]
    with pytest.raises(RecipeError, match=setting.partition("=")[0].replace(".", r"\.") + ": it has no effect"):
        PolymodalClassifier(settings=[setting, "training.epochs=1"]).fit(rows, ["a", "b"] * 10)


def test_files_of_a_run_need_a_directory() -> None:
    settings = ["training.epochs=1", "training.logging_steps=1", "evaluation.unimodal_scores=none"]
    with pytest.raises(RecipeError, match=r"training\.logging_steps: it has no effect .*out"):
        polymodal.fit(TABLE, "y", settings=settings)
    assert plan_fit(TABLE, "y", settings=settings)


@pytest.mark.parametrize(
    ("recipe", "path", "problem"),
    [
        ({"data": {"ignore_columns": ["y"]}}, "data.ignore_columns", "'y' is the target of the run"),
        (
            {"data": {"ignore_columns": ["weight"], "weight_column": "weight"}},
            "data.ignore_columns",
            "'weight' is the weight_column of the run",
        ),
        ({"inputs": {"note": {"columns": ["note", "note"]}}}, "inputs.note.columns", "'note' is listed twice"),
        (
            {
                "inputs": {
                    "a": {"columns": ["note"], "modality": "text"},
                    "b": {"columns": ["note"], "modality": "text"},
                }
            },
            "inputs.b",
            "it is the same as inputs.a",
        ),
        (
            {"outputs": {"y": "classification", "again": {"columns": ["y"], "task": "classification"}}},
            "outputs.again",
            "it is the same as outputs.y",
        ),
    ],
)
def test_a_column_has_one_use(recipe: dict[str, Any], path: str, problem: str) -> None:
    with pytest.raises(RecipeError) as refused:
        planned(recipe)
    assert refused.value.path == path
    assert problem in str(refused.value)


def test_a_column_may_be_read_in_two_ways() -> None:
    inputs = {
        "words": {"columns": ["note"], "modality": "text"},
        "label": {"columns": ["note"], "modality": "category"},
    }
    assert list(planned({"inputs": inputs}).inputs) == ["words", "label"]


def test_generation_options_without_effect_are_refused_at_prediction_time_too() -> None:
    config = TextGenerationTask.Options().generation
    for change in ({"seed": 3}, {"top_p": 0.9}, {"length_penalty": 2.0}, {"num_return_sequences": 3}):
        with pytest.raises(RecipeError):
            override_config(config, change, "outputs.y.task.generation")
    assert override_config(config, {"seed": 3, "temperature": 0.7}, "outputs.y.task.generation").seed == 3
