"""A split column in a run: what it lacks is drawn or left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polymodal.core.errors import RecipeError
from polymodal.workflows.fit import fit, plan_fit

ROWS = 200


def columns(parts: list[str]) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    label = ["common" if row % 4 else "rare" for row in range(ROWS)]
    size = draw.normal(size=ROWS) + np.array([one == "rare" for one in label])
    return {"size": size.tolist(), "label": label, "part": parts, "patient": [f"p{row // 5}" for row in range(ROWS)]}


TRAIN_TEST = ["test" if row % 5 == 0 else "train" for row in range(ROWS)]


def rows_of(data: dict[str, Any], *settings: str) -> dict[str, np.ndarray]:
    _, splits = plan_fit(data, "label", settings=["data.split.column=part", *settings])
    return {name: split.rows for name, split in splits.items()}


def test_validation_is_drawn_from_the_training_rows() -> None:
    data = columns(TRAIN_TEST)
    found = rows_of(data)
    assert found["test"].tolist() == list(range(0, ROWS, 5))
    assert sorted([*found["train"], *found["validation"]]) == [row for row in range(ROWS) if row % 5]
    assert len(found["validation"]) == 16
    assert sum(data["label"][row] == "rare" for row in found["validation"]) == 4
    assert rows_of(data)["validation"].tolist() == found["validation"].tolist()
    assert rows_of(data, "seed=1")["validation"].tolist() != found["validation"].tolist()
    assert len(rows_of(data, "data.split.validation_size=0.3")["validation"]) == 48


def test_validation_is_drawn_in_whole_groups() -> None:
    data = columns(["test" if row < 40 else "train" for row in range(ROWS)])
    found = rows_of(data, "data.split.group_column=patient")
    groups = {name: {data["patient"][row] for row in rows} for name, rows in found.items()}
    assert not groups["train"] & groups["validation"]
    assert len(found["validation"]) == 15 or len(found["validation"]) == 20


def test_a_given_validation_part_is_kept_and_no_test_is_drawn() -> None:
    parts = ["validation" if row % 5 == 0 else "train" for row in range(ROWS)]
    found = rows_of(columns(parts))
    assert list(found) == ["train", "validation"]
    assert found["validation"].tolist() == list(range(0, ROWS, 5))
    with pytest.raises(RecipeError, match=r"data.split.validation_size: it has no effect"):
        rows_of(columns(parts), "data.split.validation_size=0.3")
    with pytest.raises(RecipeError, match=r"data.split.test_size: it has no effect"):
        rows_of(columns(parts), "data.split.test_size=0.3")


def test_a_model_of_train_and_test_alone() -> None:
    settings = {
        "data.split.column": "part",
        "training.epochs": 2,
        "training.num_threads": 1,
        "training.precision": "fp32",
        "hidden_size": 8,
        "evaluation.unimodal_scores": "none",
    }
    model = fit(columns(TRAIN_TEST), "label", settings=settings)
    assert {name: split.rows for name, split in model.run.splits.items()} == {
        "train": 144,
        "validation": 16,
        "test": 40,
    }
    assert set(model.metrics) == {"validation", "test"}
