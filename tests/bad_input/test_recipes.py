"""Invalid recipes raise an error with the path of the key and the nearest valid name."""

from __future__ import annotations

from typing import Any

import pytest

from bad_input.samples import QUICK, TABLE, table, train
from polymodal.core.errors import RecipeError

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"trainin": {}}, "trainin", "did you mean 'training'"),
    ({"training": {"epoch": 3}}, "training.epoch", "did you mean 'epochs'"),
    ({"training": {"epochs": -1}}, "training.epochs", "greater than or equal to 0"),
    ({"training": {"num_threads": 0}}, "training.num_threads", "greater than or equal to 1"),
    ({"training": {"num_threads": "many"}}, "training.num_threads", "valid integer"),
    (
        {"outputs": {"grade": {"task": {"name": "classification", "class_weights": {"large": -1}}}}},
        "outputs.grade.task.class_weights",
        "'none' or 'balanced'",
    ),
    ({"training": {"precision": "fp61"}}, "training.precision", "'auto', 'fp32', 'bf16' or 'fp16'"),
    ({"data": {"split": {"vaild": 0.2}}}, "data.split.vaild", "did you mean 'validation_size'"),
    ({"fusion": "gatted"}, "fusion", "did you mean 'gated'"),
    ({"fusion": {"name": "gated", "num_layers": 2}}, "fusion.num_layers", "there is no such key"),
    (
        {"inputs": {"length": {"modality": {"name": "number", "image_size": 32}}}},
        "inputs.length.modality.image_size",
        "no such",
    ),
    (
        {"inputs": {"length": {"modality": "number", "encoder": "vit"}}},
        "inputs.length.encoder",
        "'vit' is for image, but this input is number",
    ),
    ({"inputs": {"lenght": "number"}}, "inputs.lenght.columns", "did you mean 'length'"),
    ({"inputs": {"grade": "category"}}, "inputs.grade.columns", "is a target"),
    (
        {"training": {"param_groups": {"fusoin": {"freeze": True}}}},
        "training.param_groups.fusoin",
        "did you mean 'fusion'",
    ),
    ({"data": {"weight_column": "wieght"}}, "data.weight_column", "did you mean 'weight'"),
]


@pytest.mark.parametrize(("recipe", "path", "hint"), WRONG, ids=[path for _, path, _ in WRONG])
def test_the_message_names_the_path_and_what_was_meant(recipe: dict[str, Any], path: str, hint: str) -> None:
    base = {} if "data" in recipe else TABLE
    with pytest.raises(RecipeError) as refused:
        train(table(), recipe={**base, **recipe})
    assert refused.value.path == path
    assert hint in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("training.epohcs=3", "did you mean 'epochs'"),
        ("trainig.epochs=3", "did you mean 'training'"),
        ("training.epochs", "KEY=VALUE"),
        ("training.epochs=many", "training.epochs"),
        ("hidden_size.of=3", "cannot set"),
        ("training.gradient_clip=[", "not YAML"),
    ],
)
def test_settings(setting: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=hint):
        train(table(), settings=[setting], recipe={**QUICK, **TABLE})


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(RecipeError, match="did you mean 'grade'"):
        train(table(), "grad")


def test_no_target() -> None:
    with pytest.raises(RecipeError, match="nothing to train: give a target column"):
        train(table(), [])  # type: ignore[arg-type]
