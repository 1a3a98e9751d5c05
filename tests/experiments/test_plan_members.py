"""Which members a recipe gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polymodal.core.errors import RecipeError
from polymodal.core.registry import find
from polymodal.experiments.arguments import as_table
from polymodal.experiments.live_options import check_live_options
from polymodal.experiments.plan import Plan, make_plan
from polymodal.pretrained.starter.registry import installed
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.run_context import RunContext

TABLE = {
    "size": [0.5 * (n % 17) for n in range(60)],
    "color": ["red", "green", "blue"] * 20,
    "kind": ["a", "b"] * 30,
}


def planned(rows: int = 60, **recipe: Any) -> Recipe:
    table = as_table({name: values * (rows // 60) for name, values in TABLE.items()}, None)
    assert table is not None
    given = Recipe(**recipe)
    complete = make_plan(table, given, ["kind"], estimators=True).recipe
    check_live_options(RunContext(complete, given))
    return complete


def names(recipe: Recipe) -> list[str]:
    return [options.name for options in recipe.members or []]


def test_a_recipe_without_keys_of_a_network_is_balanced() -> None:
    recipe = planned()
    assert recipe == planned(quality="balanced")
    assert planned(seed=0, training={"num_threads": 1}, inputs={"color": "category"}).quality == "balanced"


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"fusion": {"name": "gated"}}, "fusion"),
        ({"training": {"epochs": 3}}, "training.epochs"),
        ({"inputs": {"color": {"encoder": "embedding"}}}, "inputs.color.encoder"),
        ({"outputs": {"kind": {"decoder": "linear"}}}, "outputs.kind.decoder"),
        ({"hidden_size": 32}, "hidden_size"),
    ],
)
def test_a_key_of_a_network_gives_one_network_and_a_note_says_so(given: dict[str, Any], key: str) -> None:
    recipe = planned(**given)
    assert recipe.network
    assert recipe.members == []
    assert recipe.quality is None
    table = as_table(TABLE, None)
    assert table is not None
    (note,) = make_plan(table, Recipe(**given), ["kind"], estimators=True).notes
    assert key in note
    assert not make_plan(table, Recipe(**given, members=[]), ["kind"], estimators=True).notes


def test_no_members_and_workflows_of_networks_have_a_network_alone() -> None:
    assert planned(members=[]).network
    table = as_table(TABLE, None)
    assert table is not None
    recipe = make_plan(table, Recipe(), ["kind"]).recipe
    assert recipe.network
    assert recipe.members == []


def test_a_key_of_a_network_that_is_not_trained_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"training.epochs: it has no effect.*network: true"):
        planned(quality="fast", training={"epochs": 3})
    with pytest.raises(RecipeError, match=r"training.epochs: it has no effect.*network: true"):
        planned(network=False, training={"epochs": 3})
    assert planned(quality="fast", network=True, training={"epochs": 3}).network
    assert planned(network=False) == planned(quality="balanced", network=False)


def test_a_recipe_of_a_run_gives_the_same_run() -> None:
    for recipe in (planned(quality="fast"), planned(), planned(members=[]), planned(training={"epochs": 3})):
        assert planned(**recipe.explicit_values()) == recipe


@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_each_quality_names_its_members(quality: str) -> None:
    recipe = planned(quality=quality)
    assert "linear" in names(recipe)
    assert recipe.network is (quality == "best")
    assert [one.inputs for one in recipe.members or [] if one.inputs] == [["size"], ["color"]]  # type: ignore[attr-defined]
    assert recipe.ensemble.folds == {"fast": 5, "balanced": 5, "best": 8}[quality]


def test_a_text_beside_numbers_is_stacked() -> None:
    alone = planned(quality="fast")
    table = as_table({**TABLE, "about": [f"a text of {n} words" for n in range(len(TABLE["size"]))]}, None)
    assert table is not None
    assert "stacking" not in names(alone)
    assert "stacking" in names(make_plan(table, Recipe(quality="fast"), ["kind"], estimators=True).recipe)


def test_the_best_quality_trains_no_network_on_a_series_alone() -> None:
    draw = np.random.default_rng(0)
    table = as_table({"signal": list(draw.normal(size=(60, 40))), "kind": ["a", "b"] * 30}, None)
    assert table is not None
    recipe = make_plan(table, Recipe(quality="best"), ["kind"], estimators=True).recipe
    assert not recipe.network


def test_many_rows_are_not_divided_into_folds() -> None:
    assert planned(rows=6_000, quality="fast").ensemble.folds == 1
    assert planned(rows=6_000, quality="fast", ensemble={"folds": 3}).ensemble.folds == 3


def test_named_members_are_kept_and_no_others_are_added() -> None:
    recipe = planned(members=["linear"], network=False)
    assert names(recipe) == ["linear"]
    assert planned(quality="best", network=False).network is False


def test_an_option_of_the_ensemble_needs_members() -> None:
    with pytest.raises(RecipeError, match="members beside the network"):
        planned(members=[], ensemble={"folds": 3})


def test_a_model_of_some_inputs_keeps_the_members_that_read_them() -> None:
    recipe = planned(quality="fast").with_inputs(["color"])
    assert names(recipe).count("linear") == 1
    assert all(not one.inputs for one in recipe.members or [])  # type: ignore[attr-defined]


def test_texts_keep_their_own_ngrams_and_get_some_otherwise() -> None:
    texts = {"about": [f"a text of {n} words" for n in range(60)]}
    table = as_table({**texts, "kind": ["a", "b"] * 30}, None)
    assert table is not None

    def ngrams(**modality: Any) -> Any:
        given = Recipe(members=["linear"], inputs={"about": {"modality": {"name": "text", **modality}}})
        return make_plan(table, given, ["kind"], estimators=True).recipe.inputs["about"].modality.ngrams  # type: ignore[union-attr]

    assert ngrams() is not None
    assert ngrams(ngrams={"words": 1, "characters": None}).words == 1
    with pytest.raises(RecipeError, match="features of this input need it"):
        ngrams(ngrams=None)


def plan_of_texts(texts: dict[str, list[str]], **recipe: Any) -> Plan:
    table = as_table({**texts, "kind": ["a", "b"] * 30}, None)
    assert table is not None
    return make_plan(table, Recipe(**recipe), ["kind"], estimators=True)


def test_a_network_joins_where_texts_may_depend_on_each_other() -> None:
    one = {"question": [f"第{n}个问题是什么" for n in range(60)]}
    two = one | {"story": [f"第{n}个故事很长" for n in range(60)]}  # no checkpoint reads them
    for texts, expected in ((one, False), (two, True)):
        for quality in ("fast", "balanced"):
            plan = plan_of_texts(texts, quality=quality)
            assert plan.recipe.network is (expected and quality == "balanced")
            assert plan.alternative is None


@pytest.mark.skipif(installed("text") is None, reason="needs the extra `starter`")
def test_a_network_without_checkpoints_is_the_alternative_to_members_that_read_them() -> None:
    one = {"question": [f"what is the question {n}" for n in range(60)]}
    two = one | {"story": [f"a story of the {n} things" for n in range(60)]}
    assert plan_of_texts(one).alternative is None
    assert plan_of_texts(two, quality="fast").alternative is None
    assert plan_of_texts(two, network=False).alternative is None
    plan = plan_of_texts(two)
    assert not plan.recipe.network
    assert plan.alternative is not None
    assert plan.alternative.members == []
    encoders = {spec.encoder.name for spec in plan.alternative.inputs.values() if spec.encoder is not None}
    assert encoders == {find("modality", "text").default_encoder}
    assert plan_of_texts(two, **plan.recipe.explicit_values()).alternative is None  # a run is repeated as it was
