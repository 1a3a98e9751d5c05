"""Columns of noise do no harm: a model with them is within a point of the model without them.

With `fast`, which has no kernel model, it is within a point and a half.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import polymodal
from polymodal.recipe.ensemble import Quality

SETTINGS = {"training.num_threads": 1, "training.precision": "fp32", "evaluation.bootstrap_samples": 0}
ROWS, NEW_ROWS = 400, 2000
TOLERANCE = {"fast": 0.015, "balanced": 0.01}
VOCABULARY = [f"{first}{second}o" for first in "bdfgklmnprst" for second in "aeiou"]


def table(rows: int, seed: int) -> dict[str, list[Any]]:
    """Whether a flat is let soon, by its price, its size, and its district."""
    draw = np.random.default_rng(seed)
    price, size, district = draw.normal(size=rows), draw.normal(size=rows), draw.integers(0, 4, rows)
    score = 2 * size - 2 * price + np.array([2.0, 0.0, 0.0, -2.0])[district] + 0.7 * draw.normal(size=rows)
    return {
        "price": (900 + 200 * price).tolist(),
        "size": (70 + 20 * size).tolist(),
        "district": [["north", "south", "east", "west"][one] for one in district],
        "soon": ["yes" if one > 0 else "no" for one in score],
    }


def noise(kind: str, count: int, rows: int, seed: int) -> dict[str, list[Any]]:
    draw = np.random.default_rng([seed, 9])
    columns: dict[str, list[Any]] = {}
    for number in range(count):
        if kind == "numbers":
            columns[f"extra {number}"] = draw.normal(size=rows).tolist()
        elif kind == "categories":
            columns[f"extra {number}"] = [f"level {one}" for one in draw.integers(0, 6, rows)]
        else:
            columns[f"extra {number}"] = [" ".join(words) for words in draw.choice(VOCABULARY, (rows, 8))]
    return columns


@cache
def accuracy(quality: Quality, kind: str = "numbers", count: int = 0) -> float:
    """The accuracy on new rows of a model that was fitted with columns of noise."""
    found = polymodal.fit(
        table(ROWS, 0) | noise(kind, count, ROWS, 0), "soon", quality=quality, settings={**SETTINGS, "network": False}
    )
    new = table(NEW_ROWS, 1)
    predicted = found.predict(new | noise(kind, count, NEW_ROWS, 1))
    return float(np.mean([one == other for one, other in zip(predicted, new["soon"], strict=True)]))


@pytest.mark.parametrize(
    ("quality", "kind", "count"),
    [("fast", "numbers", 20), ("fast", "texts", 1), ("balanced", "numbers", 20), ("balanced", "categories", 20)],
)
def test_columns_of_noise_do_no_harm(quality: Quality, kind: str, count: int) -> None:
    assert accuracy(quality) > 0.85
    assert accuracy(quality, kind, count) >= accuracy(quality) - TOLERANCE[quality]
