"""Rows given to a model: one row or a table, by the modalities of its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymodal.core.errors import DataError
from polymodal.model.model import Model
from polymodal.workflows.fit import fit

SETTINGS = {
    "training.epochs": 1,
    "training.precision": "fp32",
    "training.num_threads": 1,
    "evaluation.unimodal_scores": "none",
    "evaluation.bootstrap_samples": 0,
    "hidden_size": 8,
}


def image(value: int) -> np.ndarray:
    return np.full((20, 30, 3), value, np.uint8)


@pytest.fixture(scope="module")
def model() -> Model:
    data = {
        "image": [image(row % 200) for row in range(60)],
        "signal": [[float(row % 7), 1.0, 2.0, 3.0, 4.0] for row in range(60)],
        "size": [float(row) for row in range(60)],
        "y": [row % 2 == 0 for row in range(60)],
    }
    small = {"inputs.image": {"modality": {"name": "image", "image_size": 32}}, "inputs.signal": "time_series"}
    return fit(data, target="y", settings=SETTINGS | small | {"inputs.size": "number"})


CELL: dict[str, Any] = {"image": image(3), "signal": [1.0, 2.0, 3.0, 4.0], "size": 2.5}


@pytest.mark.parametrize("kept", [["image"], ["signal"], ["size"], ["image", "signal"], ["image", "signal", "size"]])
def test_a_dict_of_cells_is_one_row_whatever_its_cells(model: Model, kept: list[str]) -> None:
    """An array is one image, and a list of numbers is one series."""
    row = {name: cell if name in kept else None for name, cell in CELL.items()}
    one = model.predict_proba(row)
    assert len(one) == 1
    np.testing.assert_allclose(one, model.predict_proba([row]), atol=1e-6)


@pytest.mark.parametrize("kept", [["image"], ["signal"], ["size"], ["image", "size"]])
def test_a_dict_of_columns_is_a_table(model: Model, kept: list[str]) -> None:
    columns = {name: [cell if name in kept else None] * 3 for name, cell in CELL.items()}
    assert len(model.predict(columns)) == 3
    stacked = {**columns, "image": np.stack([image(3)] * 3)} if "image" in kept else columns
    assert len(model.predict(stacked)) == 3


def test_a_dict_of_cells_and_columns_is_refused(model: Model) -> None:
    with pytest.raises(DataError, match="'size' holds one cell and 'signal' holds several"):
        model.predict({"image": None, "signal": [[1.0, 2.0, 3.0, 4.0]] * 3, "size": 2.5})


def test_predictions_and_classes_have_the_type_of_the_training_table(model: Model) -> None:
    assert model.classes == [False, True]
    assert {type(found) for found in model.predict([CELL] * 3)} == {bool}


def test_an_empty_line_of_a_file_of_one_column_is_an_empty_cell(tmp_path: Path) -> None:
    texts = [f"words {'pn'[row % 2]} here" for row in range(40)]
    labels = ["pn"[row % 2] for row in range(40)]
    model = fit({"text": texts, "y": labels}, target="y", settings=SETTINGS | {"inputs": {"text": "text"}})
    (tmp_path / "t.csv").write_text("text\nwords p here\n\nwords n here\n")
    lines = model.predict_proba(tmp_path / "t.csv")
    np.testing.assert_allclose(lines, model.predict_proba({"text": ["words p here", None, "words n here"]}), atol=1e-6)
