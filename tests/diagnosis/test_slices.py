"""Slices: a planted bad one is found with its corrected p-value, and none where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from polymodal import Model, fit
from polymodal.core.errors import RecipeError
from polymodal.diagnosis.multiple_tests import holm
from polymodal.diagnosis.slice_candidates import SliceCandidate, column_candidates
from polymodal.diagnosis.slices import find_slices


def candidates(draw: np.random.Generator, rows: int) -> tuple[dict[str, list[Any]], Iterator[SliceCandidate]]:
    """Six columns, and their candidates: 10 makers, numbers, a missing cell, texts."""
    table: dict[str, list[Any]] = {
        "maker": draw.choice(list("abcdefghij"), rows).tolist(),
        "size": [None if draw.random() < 0.2 else float(one) for one in draw.normal(size=rows)],
        "weight": draw.exponential(size=rows).tolist(),
        "count": draw.integers(0, 5, rows).tolist(),
        "note": [" ".join(["word"] * (1 + one % 7)) + f" {one}" for one in draw.integers(0, 999, rows)],
        "flag": (draw.random(rows) < 0.3).tolist(),
    }
    return table, (one for name, cells in table.items() for one in column_candidates(name, cells))


def test_no_slice_is_found_without_one() -> None:
    false = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        loss = (draw.random(1000) < 0.2).astype(float) if seed % 2 else draw.exponential(size=1000)
        found = find_slices(loss, candidates(draw, 1000)[1], output="y", unit="fraction wrong", seed=seed)
        assert found.looks >= 25
        false += len(found) > 0
    assert false <= 5


def test_a_planted_slice_is_found_with_a_small_corrected_p_value() -> None:
    hits = 0
    for seed in range(20):
        draw = np.random.default_rng(1000 + seed)
        table, some = candidates(draw, 1500)
        bad = np.array([one == "c" for one in table["maker"]])
        loss = (draw.random(1500) < np.where(bad, 0.6, 0.2)).astype(float)
        found = find_slices(loss, some, output="y", unit="fraction wrong", seed=seed)
        if found and found[0].name == "maker is 'c'":
            hits += 1
            assert found[0].p_value < 0.05
            assert found[0].loss > 2 * found[0].loss_elsewhere
            assert found[0].rows == bad.sum()
    assert hits >= 19


def test_candidates_divide_the_rows_of_a_column() -> None:
    rows = 400
    draw = np.random.default_rng(0)
    table, _ = candidates(draw, rows)
    for name in ("size", "weight", "count", "maker", "flag", "note"):
        masks = np.array([one.rows for one in column_candidates(name, table[name])])
        assert (masks.sum(axis=0) == 1).all(), name
    only_missing = list(column_candidates("photo", [b"bytes", None] * 5))
    assert [one.name for one in only_missing] == ["photo is missing"]


def test_holm_equals_the_definition() -> None:
    p = np.array([0.01, 0.02, 0.03, 0.2])
    assert holm(p).tolist() == pytest.approx([0.04, 0.06, 0.06, 0.2])
    assert holm(np.zeros(0)).tolist() == []


def planted(rows: int, seed: int) -> dict[str, list[Any]]:
    """A class that `x` decides, except at the place `north`, where it is a coin; `place` is no input."""
    draw = np.random.default_rng(seed)
    x, place = draw.normal(size=rows), draw.choice(["north", "south", "east", "west"], rows)
    label = np.where(place == "north", draw.random(rows) < 0.5, x > 0)
    return {"x": x.tolist(), "place": place.tolist(), "grade": ["high" if one else "low" for one in label]}


@pytest.fixture(scope="module")
def model() -> Model:
    settings = {
        "members": [],
        "hidden_size": 8,
        "training.epochs": 12,
        "training.learning_rate": 0.01,
        "training.num_threads": 1,
        "training.precision": "fp32",
        "evaluation.bootstrap_samples": 0,
        "data.ignore_columns": ["place"],
    }
    return fit(planted(500, 0), "grade", settings=settings)


def test_a_model_has_the_slice_of_a_column_that_it_does_not_read(model: Model) -> None:
    found = model.slices(planted(1200, 1))
    assert found[0].name == "place is 'north'"
    assert found.unit == "fraction wrong"
    assert "place is &#x27;north&#x27;" in found._repr_html_()
    assert not any(one.name.startswith("place is") for one in found[1:])
    with pytest.raises(RecipeError, match="did you mean 'place'"):
        model.slices(planted(50, 1), columns=["plac"])
