"""Which members a recipe gets."""

from __future__ import annotations

from typing import Any

import pytest

from polymodal.core.errors import RecipeError
from polymodal.experiments.arguments import as_table
from polymodal.experiments.live_options import check_live_options
from polymodal.experiments.plan import make_plan
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


def test_without_a_word_of_members_there_is_one_network() -> None:
    recipe = planned()
    assert recipe.network
    assert recipe.members == []


def test_a_recipe_of_a_run_gives_the_same_run() -> None:
    recipe = planned(quality="fast")
    again = planned(**recipe.explicit_values())
    assert again == recipe


@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_each_quality_names_its_members(quality: str) -> None:
    recipe = planned(quality=quality)
    assert "linear" in names(recipe)
    assert recipe.network is (quality == "best")
    assert [one.inputs for one in recipe.members or [] if one.inputs] == [["size"], ["color"]]  # type: ignore[attr-defined]
    assert recipe.ensemble.folds == {"fast": 5, "balanced": 5, "best": 8}[quality]


def test_many_rows_are_not_divided_into_folds() -> None:
    assert planned(rows=6_000, quality="fast").ensemble.folds == 1
    assert planned(rows=6_000, quality="fast", ensemble={"folds": 3}).ensemble.folds == 3


def test_named_members_are_kept_and_no_others_are_added() -> None:
    recipe = planned(members=["linear"], network=False)
    assert names(recipe) == ["linear"]
    assert planned(quality="best", network=False).network is False


def test_an_option_of_the_ensemble_needs_members() -> None:
    with pytest.raises(RecipeError, match="members beside the network"):
        planned(ensemble={"folds": 3})


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


def test_a_network_joins_where_texts_or_media_may_depend_on_each_other() -> None:
    texts = {name: [f"{name} of the {n} things" for n in range(60)] for name in ("question", "story")}
    for names, expected in ((["question"], False), (["question", "story"], True)):
        table = as_table({**{name: texts[name] for name in names}, "kind": ["a", "b"] * 30}, None)
        assert table is not None
        for quality in ("fast", "balanced"):
            recipe = make_plan(table, Recipe(quality=quality), ["kind"], estimators=True).recipe  # type: ignore[arg-type]
            assert recipe.network is (expected and quality == "balanced")
