"""The recipe: strict keys, round trips, defaults, overrides, and error messages with the path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from polymodal.core.errors import RecipeError
from polymodal.core.option_docs import documented_fields
from polymodal.core.registry import KINDS, components
from polymodal.recipe.overrides import apply_overrides
from polymodal.recipe.recipe import Recipe

FULL = {
    "inputs": {"photo": {"modality": "image", "encoder": {"name": "vit", "num_layers": 3}}, "text": "text"},
    "fusion": {"name": "film", "conditioning_input": "text"},
    "outputs": {"price": "regression"},
}


@pytest.mark.parametrize(
    ("change", "path", "hint"),
    [
        ({"inptus": {}}, "inptus", "did you mean 'inputs'?"),
        ({"inputs": {"photo": {"encodr": "vit"}}}, "inputs.photo.encodr", "did you mean 'encoder'?"),
        (
            {"inputs": {"photo": {"encoder": {"name": "vit", "layres": 3}}}},
            "inputs.photo.encoder.layres",
            "did you mean 'num_layers'?",
        ),
        ({"inputs": {"photo": {"modality": "imgae"}}}, "inputs.photo.modality", "did you mean 'image'?"),
        ({"fusion": {"name": "gated", "num_layers": 2}}, "fusion.num_layers", "no such key"),
        ({"fusion": "gatd"}, "fusion", "did you mean 'gated'?"),
        ({"data": {"split": {"vlaid": 0.2}}}, "data.split.vlaid", "did you mean 'validation_size'?"),
        (
            {"training": {"param_groups": {"fusion": {"lr_multiplir": 1.0}}}},
            "training.param_groups.fusion.lr_multiplir",
            "did you mean 'lr_multiplier'?",
        ),
        ({"training": {"lr": 1.0}}, "training.lr", "did you mean 'learning_rate'?"),
        ({"training": {"epochs": -1}}, "training.epochs", "greater than or equal to 0"),
        ({"training": {"epochs": "many"}}, "training.epochs", "given: 'many'"),
        (
            {"outputs": {"y": {"task": {"name": "classification", "label_smoothing": 2}}}},
            "outputs.y.task.label_smoothing",
            "less",
        ),
        ({"size": "huge"}, "size", "'tiny', 'small' or 'base'"),
    ],
)
def test_errors_name_the_path_and_the_nearest_key(change: dict, path: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.read(change)
    assert caught.value.path == path
    assert hint in str(caught.value)


def test_every_problem_is_listed() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.read({"siez": "tiny", "training": {"epoch": 3}})
    assert "siez" in str(caught.value)
    assert "training.epoch:" in str(caught.value)


def test_short_and_long_forms_are_the_same() -> None:
    long = {
        "inputs": {"text": {"columns": ["text"], "modality": {"name": "text"}}},
        "outputs": {"y": {"task": {"name": "classification"}}},
        "fusion": {"name": "mean"},
    }
    short = {"inputs": {"text": "text"}, "outputs": {"y": "classification"}, "fusion": "mean"}
    assert Recipe.read(long) == Recipe.read(short)


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_round_trip_through_files(tmp_path: Path, suffix: str) -> None:
    recipe = Recipe.read(FULL).with_size_defaults()
    path = tmp_path / f"recipe{suffix}"
    path.write_text(recipe.to_yaml() if suffix == ".yaml" else json.dumps(recipe.to_dict()))
    assert Recipe.read(path).to_dict() == recipe.to_dict()


def test_size_sets_only_unset_keys() -> None:
    tiny, base = (Recipe.read({**FULL, "size": size}).with_size_defaults() for size in ("tiny", "base"))
    assert base.hidden_size > tiny.hidden_size
    assert base.training.learning_rate < tiny.training.learning_rate
    assert base.inputs["photo"].encoder.num_layers == tiny.inputs["photo"].encoder.num_layers == 3
    assert (
        base.inputs["photo"].encoder.num_heads != tiny.inputs["photo"].encoder.num_heads
        or base.hidden_size != tiny.hidden_size
    )
    assert Recipe.read({**FULL, "size": "base", "hidden_size": 50}).with_size_defaults().hidden_size == 50


def test_overrides_expand_short_forms_and_read_yaml() -> None:
    changed = apply_overrides(
        {"inputs": {"a.b": "text"}, "fusion": "gated"},
        [
            "inputs.a.b.encoder=embedding_bag",
            "fusion.dropout=0.2",
            "training.param_groups.fusion.lr_multiplier=0.5",
            "data.ignore_columns=[x, y]",
        ],
    )
    assert changed["inputs"]["a.b"] == {"modality": "text", "encoder": "embedding_bag"}
    assert changed["fusion"] == {"name": "gated", "dropout": 0.2}
    assert changed["training"]["param_groups"]["fusion"]["lr_multiplier"] == 0.5
    assert changed["data"]["ignore_columns"] == ["x", "y"]


def test_overrides_do_not_change_the_given_mapping() -> None:
    given = {"training": {"epochs": 3}}
    apply_overrides(given, ["training.epochs=5"])
    assert given == {"training": {"epochs": 3}}


def test_settings_may_be_a_mapping() -> None:
    settings = {"training.epochs": 5, "fusion.dropout": 0.2}
    changed = apply_overrides({"fusion": "gated"}, settings)
    assert changed == {"fusion": {"name": "gated", "dropout": 0.2}, "training": {"epochs": 5}}
    assert Recipe.read({}, {"training.epochs": 5}).training.epochs == 5


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["seed=1", "seed=2"], "seed: it is set twice, to 1 and to 2"),
        (["fusion.dropout=0.1", "fusion=gated"], "fusion: this setting undoes that of fusion.dropout"),
        ("seed=1", "settings: must be a list of texts"),
        ([3], "settings: must be a list of texts"),
    ],
)
def test_no_setting_is_lost(settings: Any, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        Recipe.read({}, settings)
    assert Recipe.read({}, ["seed=1", "seed=1"]).seed == 1


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_key_given_twice_is_refused_with_its_lines(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"recipe{suffix}"
    path.write_text('{"training": {"epochs": 5},\n "seed": 1,\n "training": {"learning_rate": 0.1}}')
    with pytest.raises(RecipeError, match="the key 'training' is given in line 1 and in line 3"):
        Recipe.read(path)


def test_words_of_yaml_are_what_the_column_says(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "inputs: {no: number, 2026: {columns: [2026, on]}}\n"
        "data: {ignore_columns: [yes, 007, 2026-01-01], strict: yes}\n"
        "outputs: {y: {task: {name: classification, class_weights: {yes: 5, 1.50: 2}}}}\n"
    )
    recipe = Recipe.read(path, ["data.weight_column=off"])
    assert list(recipe.inputs) == ["no", "2026"]
    assert recipe.inputs["2026"].columns == ["2026", "on"]
    assert recipe.data.ignore_columns == ["yes", "007", "2026-01-01"]
    assert (recipe.data.strict, recipe.data.weight_column) == (True, "off")
    assert recipe.outputs["y"].task.class_weights == {"yes": 5, "1.50": 2}


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("training.batch_size=true", "must be a number, not true"),
        ("data.strict=1", "must be true or false, not 1"),
        ("training.learning_rate=.nan", "finite number"),
        ("training.num_threads=9999", "less than or equal to 512"),
        ("seed=99999999999999999999999", "less than or equal to 4294967295"),
        ("data.ignore_columns=[1.5]", "must be a text; write it in quotes"),
        ("data.ignore_columns=[x, x]", "'x' is listed twice"),
        ("outputs.y.task={name: classification, class_weights: {a: true}}", "must be a number, not true"),
    ],
)
def test_values_of_another_kind_are_refused(setting: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        Recipe.read({}, [setting])


@pytest.mark.parametrize("setting", ["training.epochs", "=3", "seed.deep=3", "a=[1"])
def test_wrong_overrides_are_refused(setting: str) -> None:
    with pytest.raises(RecipeError):
        Recipe.read({"seed": 1}, [setting])


def test_an_encoder_of_another_modality_is_refused() -> None:
    recipe = Recipe.read({"inputs": {"q": {"modality": "text", "encoder": "vit"}}, "outputs": {"y": "classification"}})
    with pytest.raises(
        RecipeError, match=r"inputs\.q\.encoder: the encoder 'vit' is for image, but this input is text"
    ):
        recipe.check_components()


def test_parts_must_exist() -> None:
    recipe = Recipe.read(
        {**FULL, "training": {"param_groups": {"inputs.photo.encoder": {"freeze": True}, "fusoin": {}}}}
    )
    with pytest.raises(RecipeError, match="did you mean 'fusion'"):
        recipe.check_components()


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError):
        Recipe.read(path)


def test_the_schema_names_every_component_and_option() -> None:
    schema = json.dumps(Recipe.model_json_schema())
    for kind in KINDS:
        for name, component in components(kind).items():
            assert f'"{name}"' in schema
            for option in component.Options.model_fields:
                assert f'"{option}"' in schema


def test_every_option_is_documented() -> None:
    for kind in KINDS:
        for name, component in components(kind).items():
            assert (component.__doc__ or "").strip(), f"{kind} {name} has no docstring"
            for option, field in documented_fields(component.Options).items():
                assert option == "name" or field.description, f"{kind} {name}: option {option} is not documented"


def test_yaml_is_plain() -> None:
    assert yaml.safe_load(Recipe.read(FULL).with_size_defaults().to_yaml())["fusion"]["name"] == "film"
