"""Counterfactuals and nearest rows: what edited tables give, and what is planted."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from polymodal import Model, fit
from polymodal.core.errors import RecipeError

INPUTS = ("a", "b", "x")


def table(rows: int, seed: int) -> dict[str, list[Any]]:
    """The class is `up` if two or more of three inputs are high; the number is the sum."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(rows, 3))
    known = {
        "a": np.where(values[:, 0] > 0, "high", "low").tolist(),
        "b": np.where(values[:, 1] > 0, "high", "low").tolist(),
        "x": values[:, 2].tolist(),
    }
    up = (values > 0).sum(axis=1) >= 2
    return known | {"side": np.where(up, "up", "down").tolist(), "total": values.sum(axis=1).tolist()}


@pytest.fixture(scope="module", params=["members", "network"])
def model(request: pytest.FixtureRequest) -> Model:
    settings: dict[str, Any] = {"evaluation.bootstrap_samples": 0, "inputs.a": "category", "inputs.b": "category"}
    settings |= {"inputs.x": "number", "members": ["linear"], "seed": 0}
    if request.param == "network":
        quick = {"members": [], "hidden_size": 16, "training.epochs": 15, "training.num_threads": 1}
        settings |= {**quick, "training.precision": "fp32", "training.learning_rate": 0.01}
        settings["evaluation.unimodal_scores"] = "none"
    return fit(table(300, 0), ["side", "total"], settings=settings)


def test_answers_equal_those_of_edited_tables(model: Model) -> None:
    rows = table(12, 1)
    rows["a"][0] = None
    found = model.counterfactuals(rows)
    answers = {}
    for size in range(4):
        for some in combinations(INPUTS, size):
            cells = {name: [None] * 12 if name in some else rows[name] for name in INPUTS}
            answers[some] = model.predict(cells)["side"]
    assert "a" not in found[0].without
    for row, one in enumerate(found):
        assert one.answer.value == answers[()][row]
        for name, other in one.without.items():
            assert other.value == answers[(name,)][row]
        sizes = [len(some) for some, own in answers.items() if own[row] != answers[()][row]]
        if one.removed is None:
            assert not sizes
            continue
        assert len(one.removed) == min(sizes)
        assert one.changed is not None
        assert one.changed.value == answers[one.removed][row] != one.answer.value
    assert any(one.removed is not None for one in found)
    numbers = model.counterfactuals(rows, output="total")
    assert all(one.removed is None and one.answer.probability is None for one in numbers)
    assert "smallest removal" in found._repr_html_()


def test_the_nearest_rows_are_alike_and_have_their_targets(model: Model) -> None:
    reference, rows = table(300, 0), table(40, 2)
    same = model.nearest_rows({name: cells[:5] for name, cells in reference.items()}, reference, count=1)
    assert same.distances.max() < 1e-6
    found = model.nearest_rows(rows, reference, count=5)
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert found.targets["side"][7] == [reference["side"][at] for at in found.rows[7]]
    alike = np.mean(
        [[one == side for one in near] for near, side in zip(found.targets["side"], rows["side"], strict=True)]
    )
    assert alike > 0.8  # by chance 0.5
    with pytest.raises(RecipeError, match="count: must be between 1 and 300"):
        model.nearest_rows(rows, reference, count=301)
