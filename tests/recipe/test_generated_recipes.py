"""Thousands of generated recipes: each is a recipe that reads back equal, or an error that names the path."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from polymodal.core.errors import PolymodalError, RecipeError
from polymodal.core.yaml_json import TextFormatError, read_json, read_yaml, write_yaml
from polymodal.data.table.table import Table, open_table
from polymodal.experiments.arguments import Tables
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.shipped import RECIPE_FOLDER
from polymodal.workflows.fit import plan_run

RECIPES, TEXTS, PLANS, SETTINGS = 2_000, 400, 200, 1_000
#: Values that are wrong nearly everywhere, or look like others.
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 10**6, 10**19, 10**400, -(10**30), 0.5, -0.0, 1e-320, 1e308),
    *(math.nan, math.inf, -math.inf, "", "yes", "no", "null", "007", "1e5", "auto", "none", "concat", "text", "x"),
    *("\x00", "\ud800", "é\u2028", "a.b", "{x}", "{", "/no/such/place", "../..", "y" * 5_000),
    *([], {}, [None], [[]], [[["x"]]], {"name": "vit"}, {"name": []}, {"": ""}, {"a": {"b": {"c": 1}}}, ["x", "x"]),
]
ODD_KEYS = ["", "name", "trainig", "epoch", "lr", "no", "é", "a.b", "x" * 500, "\ud800", "inputs", "0"]
ODD_TEXTS = [
    ": ",
    "- ",
    "\n",
    "\t",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "!!set ",
    "!x ",
    "<<: ",
    "'",
    '"',
    "|\n",
    "#",
    "%",
]
#: Errors about a top-level key that is empty or no text, so that no path could be printed.
NO_PATH = re.compile("there is no such key|unicode string|recipe key must be a text|a setting has a recipe key")
TABLE = {
    "length": [1.0, 2.5, 3.0, 4.5] * 10,
    "kind": ["a", "b", "c", "a"] * 10,
    "note": ["one word", "two words here", "none", "a few more words"] * 10,
    "y": ["yes", "no"] * 20,
}
PLANNED: dict[str, Any] = {
    "inputs": {
        "length": {"modality": {"name": "number", "transform": "log"}, "encoder": "periodic"},
        "note": {"modality": "text", "encoder": {"name": "embedding_bag", "dropout": 0.2}},
    },
    "fusion": {"name": "attention", "num_layers": 1, "num_heads": 2},
    "outputs": {"y": {"task": {"name": "classification", "class_weights": {"yes": 2}}, "decoder": {"name": "mlp"}}},
    "training": {"epochs": 2, "modality_balancing": {"method": "ogm", "alpha": 0.3}},
    "data": {"split": {"stratify": False, "test_size": 0.2}},
    "evaluation": {"bootstrap_samples": 10},
}


@cache
def bases() -> list[dict[str, Any]]:
    """The recipes of the package, a recipe for the table of these tests, and complete recipes."""
    shipped = [read_yaml(file.read_text(encoding="utf-8")) for file in sorted(RECIPE_FOLDER.glob("*.yaml"))]
    given = [*shipped, PLANNED]
    complete = [Recipe.read(one).with_size_defaults().to_dict() for one in given]
    return [*given, *complete]


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a value, with each of its keys or positions."""
    for key, inner in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def mutated(base: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """A copy of a recipe with one to three changes: values, typos, and keys that are moved, doubled or lost."""
    recipe = copy.deepcopy(base)
    for _ in range(draw.randint(1, 3)):
        found = list(places(recipe))
        if not found:
            break
        holder, key = draw.choice(found)
        change, value = draw.randrange(9), holder[key]
        if change >= 6:  # a value that may well be right
            mild = (
                [True, False] if isinstance(value, bool) else [1, 2, 0.5] if isinstance(value, int | float) else [value]
            )
            holder[key] = draw.choice(mild)
        elif change <= 2:
            holder[key] = copy.deepcopy(draw.choice(ODD_VALUES))
        elif change == 3 and isinstance(holder, dict):
            typo = key[:-1] + draw.choice("abcxyz") if isinstance(key, str) and key else "x"
            holder[draw.choice([typo, *ODD_KEYS])] = holder.pop(key)
        elif change == 4:
            other, place = draw.choice(found)
            holder[key] = copy.deepcopy(other[place])
        elif isinstance(holder, dict):
            holder[draw.choice(ODD_KEYS)] = copy.deepcopy(draw.choice(ODD_VALUES))
    return recipe


def read_or_refused(values: dict[str, Any], settings: Any = None, *, as_text: bool = False) -> Recipe | None:
    """The recipe, which must read back equal; None if it is refused with a path."""
    try:
        recipe = Recipe.read(values, settings)
    except RecipeError as error:
        is_named = bool(error.path) or NO_PATH.search(str(error)) is not None
        assert is_named, error  # noqa: PT017
        return None
    assert Recipe.read(recipe.to_dict()) == recipe
    assert Recipe.read(recipe.explicit_values()) == recipe
    if as_text:
        assert Recipe.read(read_yaml(recipe.to_yaml())) == recipe
        assert Recipe.read(read_json(recipe.to_json())) == recipe
    return recipe


def test_generated_recipes_are_recipes_or_errors_with_a_path() -> None:
    draw = random.Random(0)
    accepted = 0
    for number in range(RECIPES):
        recipe = read_or_refused(mutated(draw.choice(bases()), draw), as_text=number % 20 == 0)
        accepted += recipe is not None
    assert RECIPES // 20 < accepted < RECIPES


def test_generated_settings_are_recipes_or_errors_with_a_path() -> None:
    draw = random.Random(1)
    accepted = 0
    for _ in range(SETTINGS):
        base = draw.choice(bases())
        paths = [*Recipe.model_fields, "training.epochs", "fusion.dropout", "inputs.x.modality", "objectives.0.weight"]
        chosen = {
            draw.choice([draw.choice(paths), draw.choice(paths)[:-1], "a..b", ".", "0"]): draw.choice(ODD_VALUES)
            for _ in range(draw.randint(1, 2))
        }
        accepted += read_or_refused(base, chosen) is not None
    assert accepted


def test_damaged_texts_are_recipes_or_typed_errors(tmp_path: Path) -> None:
    draw = random.Random(2)
    for number in range(TEXTS):
        base = draw.choice(bases()[: len(bases()) // 2])
        text = write_yaml(base) if number % 2 else json.dumps(base, indent=1)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(text))
            text = text[:place] + draw.choice(["", *ODD_TEXTS]) + text[place + draw.choice([0, 0, 1, 5]) :]
        try:
            values = read_yaml(text)
        except TextFormatError as error:
            assert "line" in str(error) or "position" in str(error), error  # noqa: PT017
            continue
        if isinstance(values, dict):
            read_or_refused(values)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return open_table(TABLE, cache=tmp_path_factory.mktemp("tables"))


def test_generated_recipes_are_planned_or_refused(table: Table) -> None:
    draw = random.Random(3)
    planned = 0
    for _ in range(PLANS):
        try:
            recipe = Recipe.read(mutated(PLANNED, draw))
            plan, _ = plan_run(recipe, Tables(table), [])
        except PolymodalError:
            continue
        planned += 1
        again, _ = plan_run(Recipe.read(read_yaml(plan.recipe.to_yaml())), Tables(table), [])
        assert again.recipe == plan.recipe
    assert planned > PLANS // 20
