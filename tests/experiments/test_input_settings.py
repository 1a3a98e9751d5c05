"""Settings of single inputs: the other columns stay inferred. A recipe with inputs lists all of them."""

from __future__ import annotations

from typing import Any

import pytest

from polymodal.core.errors import RecipeError
from polymodal.core.registry import find
from polymodal.workflows.fit import plan_fit

SHOP = {
    "note": [f"a longer text of row {row} about its item {row % 7}" for row in range(60)],
    "price": [row * 1.5 for row in range(60)],
    "size": [row % 11 + 0.5 for row in range(60)],
    "maker": ["east", "west", "north"] * 20,
    "sent": [f"2026-{1 + row % 12:02}-{1 + row % 28:02}" for row in range(60)],
    "y": ["yes", "no"] * 30,
}


def inputs_of(settings: list[str], recipe: dict[str, Any] | None = None) -> dict[str, tuple[list[str], str]]:
    """The inputs of a network alone, whose encoders no installed checkpoint changes."""
    plan, _ = plan_fit(SHOP, "y", recipe=recipe, settings=["members=[]", *settings])
    return {name: (spec.columns, spec.encoder.name) for name, spec in plan.recipe.inputs.items() if spec.encoder}


#: The inputs without settings. The default encoder of texts may be any.
INFERRED = {
    "note": (["note"], find("modality", "text").default_encoder),
    "numbers": (["price", "size"], "linear"),
    "maker": (["maker"], "embedding"),
    "sent": (["sent"], "column_mlp"),
}


def test_a_setting_of_one_input_leaves_the_others_inferred() -> None:
    assert inputs_of([]) == INFERRED
    assert inputs_of(["inputs.note.encoder=lstm"]) == {**INFERRED, "note": (["note"], "lstm")}
    assert inputs_of(["inputs.note.encoder={name: lstm, num_layers: 2}", "fusion=sum"])["note"] == (["note"], "lstm")
    without_text = {name: found for name, found in INFERRED.items() if name != "note"}
    small_table = without_text | {"numbers": (["price", "size"], "realmlp")}
    assert inputs_of(["inputs.sent.modality.name=datetime", "data.ignore_columns=[note]"]) == small_table
    apart = {"price": (["price"], "periodic"), "size": (["size"], "linear")}
    expected = {name: found for name, found in INFERRED.items() if name != "numbers"} | apart
    assert inputs_of(["inputs.price.encoder=periodic"]) == expected
    named = {"cost": (["price"], "linear"), "size": (["size"], "linear")}
    assert inputs_of(["inputs.cost.columns=[price]"]).items() >= named.items()


def test_a_setting_can_name_a_group_of_columns() -> None:
    assert inputs_of(["inputs.numbers.encoder=periodic"]) == {**INFERRED, "numbers": (["price", "size"], "periodic")}
    assert inputs_of(["inputs.numbers.modality={name: number, transform: log}"]) == INFERRED
    with pytest.raises(RecipeError, match=r"there is no column and no inferred input 'number'.*numbers"):
        inputs_of(["inputs.number.encoder=periodic"])


def test_a_recipe_with_inputs_lists_all_of_them() -> None:
    recipe: dict[str, Any] = {"inputs": {"note": {"encoder": "lstm"}}}
    only = {"note": (["note"], "lstm")}
    assert inputs_of([], recipe) == only
    assert inputs_of(["inputs.note.encoder=lstm", "data.infer_other_columns=false"]) == only
    assert inputs_of(["inputs={note: {encoder: lstm}}"]) == only
    assert inputs_of(["inputs.price.encoder=periodic"], recipe) == {**only, "price": (["price"], "periodic")}
    assert inputs_of([], {**recipe, "data": {"infer_other_columns": True}}) == {**INFERRED, **only}
    with pytest.raises(RecipeError, match=r"data.infer_other_columns: it has no effect"):
        inputs_of([], {"data": {"infer_other_columns": True}})


def test_the_complete_recipe_lists_all_inputs() -> None:
    plan, _ = plan_fit(SHOP, "y", settings=["inputs.note.encoder=lstm"])
    assert plan.recipe.data.infer_other_columns is False
    again, _ = plan_fit(SHOP, "y", recipe=plan.recipe.to_dict())
    assert again.recipe == plan.recipe
    roles = {role.column: (role.role, role.used_by) for role in plan.roles}
    assert roles["note"] == ("input", "note")
    assert roles["price"] == ("input", "numbers")
