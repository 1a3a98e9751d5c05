"""Search spaces are strict, and leave open what a trial does not choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from polymodal.core.errors import RecipeError
from polymodal.core.yaml_json import read_yaml
from polymodal.experiments.arguments import as_recipe, as_table
from polymodal.experiments.plan import make_plan
from polymodal.recipe.recipe import Recipe
from polymodal.tuning.default_space import default_space
from polymodal.tuning.space import NumericDimension, SearchSpace, base_recipe
from tuning.searches import RECIPE, data


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYMODAL_CACHE", str(tmp_path / "cache"))


def space(choices: dict[str, Any], recipe: dict[str, Any] = RECIPE) -> SearchSpace:
    table, given = as_table(data(), None), as_recipe(recipe, None)
    assert table is not None
    return SearchSpace.read(choices, base_recipe(given, make_plan(table, given).recipe, choices))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("fusoin", ["concat"], "did you mean 'fusion'"),
        ("training.learning_rat", {"low": 0.1, "high": 0.2}, "did you mean 'learning_rate'"),
        ("inputs.aa.encoder", ["linear"], "did you mean 'a'"),
        ("outputs.targt.decoder", ["mlp"], "did you mean 'target'"),
        ("fusion", ["concat", "gatd"], "did you mean 'gated'"),
        ("fusion", [{"name": "concat", "layer": 2}], "did you mean 'num_layers'"),
        ("inputs.a.encoder", ["linear", "lstm"], "is for text, but this input is number"),
        ("inputs.a.columns", [["a0"], ["a1"]], "all trials share"),
        ("outputs.target.task", ["classification"], "all trials share"),
        ("data.split.validation_size", [0.1, 0.2], "same rows"),
        ("seed", [0, 1], "same rows"),
        ("training.modality_dropout", {"low": 0.0, "high": 1.0}, "less than 1"),
        ("training.epochs", [], "must be choices"),
        ("training.epochs", 5, "must be choices"),
        ("training.epochs", [5, 5], "twice"),
        ("training.epochs", {"low": 5, "hihg": 9}, "must be choices"),
        ("training.epochs", {"low": 5, "high": 9, "lg": True}, "did you mean 'log'"),
        ("training.epochs", {"low": 9, "high": 5}, "less than high"),
        ("training.weight_decay", {"low": 0.0, "high": 0.1, "log": True}, "above 0"),
        ("training.weight_decay", {"low": "none", "high": 0.1}, "numbers"),
        ("fusion.num_layers", [1, 99], "less than or equal to 8"),
    ],
)
def test_invalid_dimensions_are_rejected(path: str, value: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        space({path: value})


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(RecipeError, match="empty"):
        space({})


def test_small_numbers_of_a_yaml_file_are_numbers() -> None:
    found = space(read_yaml("training.learning_rate: {low: 3e-4, high: 1e-2, log: true}"))
    assert found.dimensions["training.learning_rate"] == NumericDimension(3e-4, 1e-2, True)
    drawn = found.recipe({"training.learning_rate": 1e-5})
    assert drawn.training.learning_rate == 1e-5


def test_a_space_is_written_and_read_back() -> None:
    choices = {"fusion": ["concat", {"name": "gated"}], "training.epochs": {"low": 2, "high": 9, "log": False}}
    found = space(choices)
    assert found.to_dict() == choices
    assert SearchSpace.read(found.to_dict(), Recipe.read(found.base)).to_dict() == choices


def test_an_option_is_drawn_only_where_the_chosen_component_has_it() -> None:
    found = space({"fusion.dropout": {"low": 0.0, "high": 0.5}, "fusion": ["gated", "concat"]})
    study = optuna.create_study()
    drawn = [found.suggest(study.ask()) for _ in range(12)]
    assert {one["fusion"] for one in drawn} == {"gated", "concat"}
    for one in drawn:
        assert ("fusion.dropout" in one) == (one["fusion"] == "concat")
        fusion = found.recipe(one).fusion
        assert fusion is not None
        assert fusion.name == one["fusion"]
        assert getattr(fusion, "dropout", None) == one.get("fusion.dropout")


def test_draws_keep_to_the_space() -> None:
    found = space(
        {
            "training.epochs": {"low": 2, "high": 4},
            "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "inputs.a.encoder": ["linear", {"name": "periodic"}],
        }
    )
    study = optuna.create_study()
    for _ in range(10):
        recipe = found.recipe(found.suggest(study.ask()))
        assert recipe.training.epochs in (2, 3, 4)
        assert 1e-4 <= recipe.training.learning_rate <= 1e-2
        encoder = recipe.inputs["a"].encoder
        assert encoder is not None
        assert encoder.name in ("linear", "periodic")
        assert recipe.inputs["b"].encoder is None


def test_a_search_begins_at_the_first_choices_and_then_varies_one_component_at_a_time() -> None:
    found = space(
        {
            "training.learning_rate": {"low": 0.01, "high": 0.04, "log": True},
            "inputs.a.encoder": ["linear", "periodic"],
            "fusion": ["concat", "gated", "late"],
        }
    )
    points = found.initial_points(99)
    assert points[0] == {"training.learning_rate": 0.02, "inputs.a.encoder": '"linear"', "fusion": '"concat"'}
    assert [point["fusion"] for point in points] == ['"concat"', '"gated"', '"late"', '"concat"']
    assert points[3]["inputs.a.encoder"] == '"periodic"'
    assert found.initial_points(2) == points[:2]


def test_options_outside_of_the_space_follow_from_the_chosen_ones() -> None:
    """The size dial moves widths that the recipe leaves open, and only those."""
    recipe = {key: value for key, value in RECIPE.items() if key != "hidden_size"}
    found = space({"size": ["tiny", "small"]}, {**recipe, "fusion": {"name": "concat", "dropout": 0.2}})
    table = as_table(data(), None)
    assert table is not None
    plans = [make_plan(table, found.recipe({"size": size})).recipe for size in ("tiny", "small")]
    assert [plan.hidden_size for plan in plans] == [96, 192]
    assert [plan.outputs["target"].decoder.hidden_size for plan in plans] == [128, 256]  # type: ignore[union-attr]
    assert [plan.fusion.dropout for plan in plans] == [0.2, 0.2]  # type: ignore[union-attr]


def test_the_default_space_does_not_contain_settings_of_the_recipe() -> None:
    table = as_table(data(), None)
    assert table is not None
    open_recipe = {key: value for key, value in RECIPE.items() if key in ("inputs", "outputs")}
    given = as_recipe(open_recipe, None)
    found = default_space(given, make_plan(table, given).recipe, 160, 600)
    assert found["inputs.a.encoder"] == ["linear", "periodic", "piecewise_linear", "realmlp"]
    assert {"fusion", "hidden_size", "training.learning_rate", "outputs.target.decoder"} <= set(found)
    assert space(found, open_recipe).initial_points(1)
    said = {**open_recipe, "fusion": "gated", "hidden_size": 32, "training": {"learning_rate": 0.01, "epochs": 3}}
    given = as_recipe(said, ["inputs.a.encoder=linear"])
    found = default_space(given, make_plan(table, given).recipe, 160, 600)
    assert not {"fusion", "hidden_size", "inputs.a.encoder", "training.learning_rate", "training.epochs"} & set(found)
    assert "inputs.b.encoder" in found


def test_one_input_is_not_fused() -> None:
    table = as_table(data(), None)
    assert table is not None
    given = as_recipe({"inputs": {"a": RECIPE["inputs"]["a"]}, "outputs": {"target": "classification"}}, None)
    found = default_space(given, make_plan(table, given).recipe, 160, 600)
    assert "fusion" not in found
    assert "training.modality_dropout" not in found


def test_pretrained_encoders_are_fine_tuned_only_with_enough_time() -> None:
    plan = Recipe.read(
        {"inputs": {"text": "text"}, "outputs": {"y": "classification"}, "pretrained": "starter", "fusion": "concat"}
    )
    short = default_space(plan, plan, rows=100, seconds=600)["inputs.text.encoder"]
    assert [choice["max_tokens"] for choice in short] == [1, 8]
    assert all(choice["name"] == "pretrained_text" and choice["checkpoint"] == "starter" for choice in short)
    for seconds in (1000, None):
        choices = default_space(plan, plan, rows=100, seconds=seconds)["inputs.text.encoder"]
        assert [choice.get("fine_tuning") for choice in choices] == [None, None, "last"]


def test_baselines_read_the_first_frozen_pretrained_encoder_that_is_offered() -> None:
    base = Recipe.read({"inputs": {"text": "text", "a": "number"}, "outputs": {"y": "classification"}})
    frozen = {"name": "pretrained_text", "checkpoint": "starter", "max_tokens": 8}
    choices = {
        "inputs.text.encoder": ["embedding_bag", {**frozen, "fine_tuning": "last"}, frozen],
        "inputs.a.encoder": ["linear", "periodic"],
    }
    assert SearchSpace.read(choices, base).frozen_encoders == {"inputs.text.encoder": frozen}
