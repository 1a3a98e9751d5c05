"""Permutation importance of the columns of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import polymodal
from polymodal.core.errors import RecipeError
from polymodal.evaluation.feature_importance import FeatureImportance
from polymodal.model.model import Model

SETTINGS: dict[str, Any] = {"evaluation.bootstrap_samples": 0, "training.num_threads": 1, "training.precision": "fp32"}


def rows(seed: int, count: int = 300) -> dict[str, list[Any]]:
    """A number that two numbers, a category and a word decide, in this order; and a column of noise of each kind."""
    draw = np.random.default_rng(seed)
    first, second, noise = draw.normal(size=(3, count))
    color, other, word = draw.integers(0, 2, (3, count))
    price = 4 * first + 2 * second + color + 0.5 * word
    return {
        "first": first.tolist(),
        "second": [None if row % 11 == 0 else one for row, one in enumerate(second.tolist())],
        "noise": noise.tolist(),
        "color": ["red" if one else "blue" for one in color],
        "other": ["north" if one else "south" for one in other],
        "about": [f"a {'new' if one else 'used'} thing of sort {row % 9}" for row, one in enumerate(word)],
        "price": price.tolist(),
    }


@pytest.fixture(scope="module")
def model() -> Model:
    return polymodal.fit(rows(0, 500), "price", quality="fast", settings=SETTINGS)


@pytest.fixture(scope="module")
def importance(model: Model) -> FeatureImportance:
    return model.feature_importance(rows(1))


def test_columns_are_in_the_order_of_their_effects(importance: FeatureImportance) -> None:
    found = {one.column: one.importance for one in importance}
    assert [one.column for one in importance][:3] == ["first", "second", "color"]
    assert max(abs(found["noise"]), abs(found["other"])) < 0.2 * found["color"]
    assert list(pd.DataFrame(importance)["column"]) == [one.column for one in importance]


@pytest.mark.parametrize("column", ["first", "color", "about"])
def test_the_importance_is_the_loss_of_the_score_of_rows_with_exchanged_cells(
    model: Model, importance: FeatureImportance, column: str
) -> None:
    """In the mean over other permutations, evaluated as a table of its own, within their spread."""
    (own,) = (one for one in importance if one.column == column)
    table, draw, losses = rows(1), np.random.default_rng(9), []
    for _ in range(8):
        order = draw.permutation(300)
        changed = {**table, column: [table[column][row] for row in order]}
        losses.append(importance.score - model.evaluate(changed)["price"][importance.metric]["value"])
    sign = 1 if importance.metric == "r2" else -1
    errors = np.hypot(np.std(losses) / 8**0.5, own.standard_deviation / 5**0.5)
    assert abs(sign * np.mean(losses) - own.importance) < 5 * errors
    assert importance.score == pytest.approx(model.evaluate(table)["price"][importance.metric]["value"], abs=1e-5)


def test_a_network_has_importances_too_and_equal_calls_are_equal() -> None:
    settings = {**SETTINGS, "members": [], "training.epochs": 30, "evaluation.unimodal_scores": "none"}
    model = polymodal.fit(rows(0, 200), "price", settings=settings)
    first = model.feature_importance(rows(1), num_repeats=2)
    assert first[0].column == "first"
    assert list(first) == list(model.feature_importance(rows(1), num_repeats=2))


def test_bad_arguments_are_named(model: Model) -> None:
    with pytest.raises(RecipeError, match="num_repeats"):
        model.feature_importance(rows(1), num_repeats=1)
    with pytest.raises(RecipeError, match=r"there is no output 'prize'.*did you mean 'price'"):
        model.feature_importance(rows(1), output="prize")
