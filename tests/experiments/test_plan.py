"""Inference: what each column is taken for, and that the user overrides any of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import find
from polymodal.data.table.table import open_table
from polymodal.datasets import planted
from polymodal.datasets.events import make_audio_events
from polymodal.experiments.arguments import as_recipe
from polymodal.experiments.plan import Plan, complete_schedule, infer_encoder, make_plan
from polymodal.recipe.recipe import InputSpec, Recipe


def plan(columns: dict[str, list[Any]], tmp_path: Path, targets: list[str], **recipe: Any) -> Plan:
    return make_plan(open_table(columns, cache=tmp_path), Recipe.read(recipe), targets)


def test_kinds_are_inferred_with_reasons(tmp_path: Path) -> None:
    made = plan({**planted.make_mixed(200, 0), "id": list(range(200)), "same": ["x"] * 200}, tmp_path, ["answer"])
    kinds = {role.column: (role.role, role.kind) for role in made.roles}
    assert kinds["image"] == ("input", "image")
    assert kinds["question"] == ("input", "text")
    assert kinds["score"] == ("input", "number")
    assert kinds["mode"] == ("input", "category")
    assert kinds["answer"] == ("target", "classification")
    assert kinds["id"][0] == kinds["same"][0] == "ignored"
    assert all(role.reason for role in made.roles)


def test_numbers_are_grouped_and_a_number_target_is_regression(tmp_path: Path) -> None:
    made = plan(planted.make_exclusive_or(100, 0), tmp_path, ["a0"])
    assert made.recipe.inputs["numbers"].columns == ["a1", "a2", "a3", "b0", "b1", "b2", "b3"]
    assert made.recipe.outputs["a0"].task.name == "regression"


def test_the_user_overrides_any_kind(tmp_path: Path) -> None:
    columns = {"zip": [10115, 20095, 50667, 80331] * 25, "y": ["a", "b"] * 50}
    made = plan(columns, tmp_path, ["y"], inputs={"zip": "category"})
    assert made.recipe.inputs["zip"].modality.name == "category"
    made = plan({"x": [1, 2] * 50, "rating": [1, 5] * 50}, tmp_path, [], outputs={"rating": "regression"})
    assert made.recipe.outputs["rating"].task.name == "regression"


def test_the_size_dial_reaches_what_follows_from_the_data(tmp_path: Path) -> None:
    columns = {"photo": planted.make_planted_images(40, 0, size=224)["image"], "y": ["a", "b"] * 20}
    tiny, base = (plan(columns, tmp_path, ["y"], size=size) for size in ("tiny", "base"))
    assert tiny.recipe.inputs["photo"].modality.image_size == 64
    assert base.recipe.inputs["photo"].modality.image_size == 224


@pytest.mark.parametrize(
    ("targets", "recipe", "message"),
    [
        (["anwser"], {}, "did you mean 'answer'"),
        ([], {}, "nothing to train: give a target column"),
        (["answer"], {"inputs": {"iamge": "image"}}, "inputs.iamge.columns"),
        (["answer"], {"inputs": {"answer": "category"}}, "is a target"),
        (["answer"], {"data": {"ignore_columns": ["nothing"]}}, "data.ignore_columns"),
        (["answer"], {"inputs": {"both": {"columns": ["question", "mode"], "modality": "text"}}}, "one column"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, targets: list[str], recipe: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace(".", r"\.")):
        plan(planted.make_mixed(50, 0), tmp_path, targets, **recipe)


def test_a_table_without_usable_inputs_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the same value in every sampled row"):
        plan({"same": ["x"] * 20, "y": ["a", "b"] * 10}, tmp_path, ["y"])


def test_the_schedule_follows_from_the_rows() -> None:
    few, many = (complete_schedule(Recipe.read({}), rows).training for rows in (200, 1_000_000))
    assert few.batch_size < many.batch_size == 256
    assert few.epochs > many.epochs == 10
    given = Recipe.read({"training": {"epochs": 3, "batch_size": 7, "early_stopping_patience": 2}})
    assert complete_schedule(given, 1000).training == given.training


def small_table(rows: int) -> dict[str, list[Any]]:
    return {"x": [float(row % 7) + 0.5 for row in range(rows)], "y": ["a", "b"] * (rows // 2)}


def test_a_small_table_of_columns_has_defaults_of_its_own(tmp_path: Path) -> None:
    recipe = plan(small_table(200), tmp_path, ["y"]).recipe
    assert recipe.inputs["x"].encoder.name == "realmlp"
    training = recipe.training
    assert (training.batch_size, training.epochs, training.weight_decay) == (64, 60, 0.3)
    assert plan(small_table(200), tmp_path, ["y"], training={"epochs": 2}).recipe.training.epochs == 2
    assert plan(small_table(2000), tmp_path, ["y"]).recipe.training.epochs == 47


@pytest.mark.parametrize(
    ("rows", "recipe"),
    [
        (2002, {}),
        (200, {"inputs": {"x": {"modality": "number", "encoder": "linear"}}}),
        (200, {"training": {"learning_rate": 0.01}}),
        (200, {"fusion": "attention"}),
        (200, {"size": "base"}),
    ],
)
def test_other_recipes_keep_the_general_defaults(tmp_path: Path, rows: int, recipe: dict[str, Any]) -> None:
    made = plan(small_table(rows), tmp_path, ["y"], **recipe).recipe
    assert made.inputs["x"].encoder.name == "linear"
    assert made.training.weight_decay == 0.01
    assert made.training.batch_size is None


def test_options_that_only_the_data_can_refuse_are_named_in_full(tmp_path: Path) -> None:
    from polymodal.preparation.preparation import Preparation

    weights = {"y": {"task": {"name": "classification", "class_weights": {"aa": 2.0}}}}
    table = open_table({"x": [1.0, 2.5] * 20, "y": ["a", "b"] * 20}, cache=tmp_path)
    preparation = Preparation(make_plan(table, Recipe.read({"outputs": weights})).recipe)
    with pytest.raises(RecipeError, match=r"outputs\.y\.task\.class_weights: there is no class 'aa'"):
        preparation.fit(table, np.arange(40))
    both = Recipe.read({"outputs": {"y": {"columns": ["y", "z"], "task": "classification"}}, "inputs": {"x": "number"}})
    with pytest.raises(RecipeError, match=r"outputs\.y\.columns: a classification output needs exactly one column"):
        Preparation(make_plan(open_table({"x": [1.0], "y": ["a"], "z": ["b"]}, cache=tmp_path), both).recipe)


def test_nothing_moves_where_a_target_is_events_in_time(tmp_path: Path) -> None:
    columns = make_audio_events(30, 0)
    made = plan(columns, tmp_path, ["events"])
    (spec,) = made.recipe.inputs.values()
    assert spec.modality.time_shift == 0
    whole = plan({**columns, "events": ["a", "b"] * 15}, tmp_path, ["events"])
    assert next(iter(whole.recipe.inputs.values())).modality.time_shift > 0
    asked = {"sound": {"modality": {"name": "audio", "trim_silence_db": 40}}}
    with pytest.raises(RecipeError, match=r"inputs\.sound\.modality\.trim_silence_db.*events.*null"):
        plan(columns, tmp_path, ["events"], inputs=asked)
    assert plan(columns, tmp_path, ["events"], inputs={"sound": {"modality": {"name": "audio", "time_shift": 0.0}}})


def test_settings_of_a_recipe_keep_unset_options_unset() -> None:
    """Defaults that count as given would conflict with the checkpoint and with the option `size`."""
    encoder = find("encoder", "pretrained_text").Options(checkpoint="starter")
    recipe = Recipe(inputs={"q": InputSpec(modality=find("modality", "text").Options(), encoder=encoder)})
    changed = as_recipe(recipe, ["fusion=gated", "size=base"])
    spec = changed.inputs["q"]
    assert spec.modality is not None
    assert spec.encoder is not None
    assert spec.modality.model_fields_set == {"name"}
    assert spec.encoder.model_fields_set == {"name", "checkpoint"}
    assert changed.with_size_defaults().hidden_size == 384
    assert Recipe.read(recipe.explicit_values()) == recipe
    assert as_recipe(changed, ["inputs.q.encoder.max_tokens=4"]).inputs["q"].encoder.model_dump()["max_tokens"] == 4


def test_pretrained_clips_are_read_by_frames_where_only_starter_weights_are_there() -> None:
    clip = infer_encoder("video", Recipe(pretrained="starter")).model_dump()
    assert (clip["name"], clip["frame_encoder"]["name"], clip["frame_encoder"]["checkpoint"]) == (
        "frame_encoder",
        "pretrained_image",
        "starter",
    )
    assert infer_encoder("video", Recipe(pretrained="fast")).model_dump()["checkpoint"] == "fast"
    assert infer_encoder("audio", Recipe(pretrained="starter")).name == "pretrained_audio"
    assert infer_encoder("number", Recipe(pretrained="starter")).name == "linear"
