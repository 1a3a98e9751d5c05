"""The terms of linear and tree members sum to their predictions, and belong to the right features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polymodal import Model, fit
from polymodal.core.errors import RecipeError
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors
from polymodal.inference.ensemble_predictor import EnsemblePredictor


def table(rows: int, seed: int) -> dict[str, list[Any]]:
    draw = np.random.default_rng(seed)
    size, weight = draw.normal(size=rows), draw.normal(size=rows)
    color = draw.choice(["red", "green", "blue"], rows)
    words = draw.choice(["river", "stone", "cloud", "light"], (rows, 6))
    score = 2 * size + (color == "red") + (words == "river").sum(axis=1)
    return {
        "size": size.tolist(),
        "weight": [None if at % 7 == 0 else one for at, one in enumerate(weight.tolist())],
        "color": color.tolist(),
        "text": [" ".join(one) for one in words],
        "class": np.digitize(score, [1, 3]).astype(str).tolist(),
        "score": score.tolist(),
    }


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    settings = {"evaluation.bootstrap_samples": 0, "inputs.text": "text"}
    return {
        member: fit(table(150, 0), ["class", "score"], settings=settings | {"members": [member]})
        for member in ("linear", "gradient_boosting")
    }


@pytest.mark.parametrize("output", ["class", "score"])
@pytest.mark.parametrize("member", ["linear", "gradient_boosting"])
def test_terms_sum_to_the_prediction_of_the_member(models: dict[str, Model], member: str, output: str) -> None:
    rows, model = table(20, 1), models[member]
    found = model.member_terms(rows, output=output)
    assert found.member == member
    predictor = model.row_predictor
    assert isinstance(predictor, EnsemblePredictor)
    (block,) = model.preparation.blocks(model.open(rows), CellErrors())
    raw = predictor.member_values(Split.all_rows(model.preparation.prepare_block(block)))[member][output]
    assert np.allclose(found.start + found.values.sum(axis=1), raw, atol=1e-4)
    assert {name for _, name in found.features} >= {"size", "weight", "color"}


def test_the_terms_of_a_linear_member_are_linear_in_its_columns(models: dict[str, Model]) -> None:
    rows = table(3, 2) | {"size": [0.0, 1.0, 2.0]}
    found = models["linear"].member_terms(rows, member="linear", output="score")
    own = found.values[:, found.features.index(("numbers", "size")), 0]
    assert own[1] - own[0] == pytest.approx(own[2] - own[1], rel=1e-4)
    assert own[1] - own[0] > 0.2


def test_the_decisive_column_has_the_largest_terms(models: dict[str, Model]) -> None:
    found = models["gradient_boosting"].member_terms(table(50, 3), output="score")
    sizes = np.abs(found.values[:, :, 0]).mean(axis=0)
    assert found.features[int(sizes.argmax())] == ("numbers", "size")
    assert found.top(0, "score")[0][0] == "numbers"


def test_wrong_members_are_errors(models: dict[str, Model]) -> None:
    rows = table(2, 4)
    with pytest.raises(RecipeError, match="did you mean 'linear'"):
        models["linear"].member_terms(rows, member="linera")
