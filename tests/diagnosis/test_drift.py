"""Drift: found where the inputs changed, one by one and jointly, and not where they are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polymodal import Model, fit
from polymodal.diagnosis.drift import drift_tests


def table(rows: int, seed: int, **changes: Any) -> dict[str, list[Any]]:
    """Two numbers, a category, a text and a class; `changes` shift one of them."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=rows) + changes.get("shift", 0.0)
    y = x * changes.get("sign", 1.0) + 0.1 * draw.normal(size=rows)
    words = draw.choice(changes.get("words", ["river", "stone", "cloud", "tree"]), (rows, 3))
    gone = draw.random(rows) < changes.get("missing", 0.05)
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "maker": draw.choice(["a", "b", "c"], rows, p=changes.get("p", [0.4, 0.3, 0.3])).tolist(),
        "note": [None if lost else " ".join(one) for one, lost in zip(words, gone, strict=True)],
        "grade": np.where(x > 0, "high", "low").tolist(),
    }


@pytest.fixture(scope="module", params=["members", "network"])
def model(request: pytest.FixtureRequest) -> Model:
    settings: dict[str, Any] = {"evaluation.bootstrap_samples": 0, "inputs.note": "text", "members": ["linear"]}
    if request.param == "network":
        quick = {"members": [], "hidden_size": 16, "training.epochs": 3, "training.num_threads": 1}
        settings |= {**quick, "training.precision": "fp32", "evaluation.unimodal_scores": "none"}
    return fit(table(300, 0), "grade", settings=settings)


def test_each_change_is_found_by_its_own_test(model: Model) -> None:
    same = table(600, 1)
    changes: dict[tuple[str, str], dict[str, Any]] = {
        ("x", "numbers"): {"shift": 0.6},
        ("maker", "categories"): {"p": [0.7, 0.2, 0.1]},
        ("note", "missing"): {"missing": 0.3},
        ("note", "classifier"): {"words": ["river", "stone", "stone", "stone"]},
    }
    for expected, change in changes.items():
        found = model.drift(same, table(600, 2, **change)).found
        assert expected in [(one.name, one.kind) for one in found], (expected, found)


def test_a_change_of_a_relation_is_found_jointly_only(model: Model) -> None:
    """`y` is `x` in one table and `-x` in the other: each alone is distributed as before."""
    found = model.drift(table(900, 3), table(900, 4, sign=-1.0)).found
    assert [one.name for one in found] == ["all inputs"]


def test_equal_tables_differ_in_at_most_5_of_100_pairs() -> None:
    wrong = 0
    for seed in range(100):
        first, second = (table(200, 10_000 + 2 * seed + one) for one in (0, 1))
        cells = {name: (first[name], second[name]) for name in ("x", "y", "maker")}
        features = {"all inputs": tuple(np.stack([side["x"], side["y"]], axis=1) for side in (first, second))}
        wrong += bool(drift_tests(cells, features, seed).found)  # type: ignore[arg-type]
    assert wrong <= 5
