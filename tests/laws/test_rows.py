"""Law 2: predictions line up with the rows, and an unusable cell is listed and changes no other row."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from laws.samples import Columns, network_of, prepare, sample_table, table_of, trained
from polymodal.core.errors import DataError
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import BadCellsWarning, CellErrors
from polymodal.datasets.planted import make_planted_table
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.inference.predictor import Predictor
from polymodal.model.model import Model

#: A cell that fits the type of its column and still cannot be used. Every string is a text and a label.
UNUSABLE: dict[str, Any] = {
    "image": b"these bytes are no image",
    "audio": b"these bytes are no sound",
    "number": float("inf"),
    "time_series": [[1.0]],
    "datetime": "no date",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    columns = make_planted_table(120, 0)
    return trained(
        {"train": columns, "validation": columns},
        tmp_path_factory.mktemp("rows"),
        inputs={
            "numbers": {"modality": "number", "columns": ["length", "weight"]},
            "maker": "category",
            "price": "number",
        },
        outputs={"grade": "classification"},
        fusion="attention",
        training={"epochs": 3},
    )


def test_answers_stay_with_their_rows(model: Model) -> None:
    """In any order, repeated, and over several prediction blocks."""
    columns = make_planted_table(2 * PREDICTION_BATCH_SIZE + 37, 1)
    for row in range(0, len(columns["maker"]), 5):
        columns["maker"][row] = None
    straight = model.predict_proba(columns)
    order = np.random.default_rng(0).integers(0, len(straight), 2 * PREDICTION_BATCH_SIZE + 1)
    shuffled = {name: [cells[row] for row in order] for name, cells in columns.items()}
    np.testing.assert_allclose(model.predict_proba(shuffled), straight[order], atol=1e-5)


def test_ragged_rows_come_back_in_order() -> None:
    """Texts that are read or written are visited by length; the answers are not."""
    columns, recipe = sample_table(["text"], ["regression", "text_generation"], rows=40)
    preparation, prepared = prepare(columns, **recipe)
    lengths = prepared.inputs["in_text"].items.lengths()
    assert lengths is not None
    assert (np.diff(lengths[prepared.inputs["in_text"].index]) < 0).any()

    network = network_of(preparation)
    rows = np.arange(40)
    predictor = Predictor(network, preparation, batch_size=7)
    by_batch = predictor.predict(Split(prepared, rows))
    for row in rows:
        alone = predictor.predict(Split(prepared, rows[row : row + 1]))
        np.testing.assert_allclose(alone["y_regression"].values[0], by_batch["y_regression"].values[row], atol=1e-5)
        own, beside = alone["y_text_generation"], by_batch["y_text_generation"]
        assert own.losses is not None
        assert beside.losses is not None
        np.testing.assert_allclose(own.losses[0], beside.losses[row], rtol=1e-5)
        written = beside.values[row].tolist()
        assert own.values[0].tolist() == [token for token in written if token >= 0]


@pytest.mark.parametrize("modality", UNUSABLE)
def test_an_unusable_cell_is_listed_and_no_other_row_changes(modality: str) -> None:
    columns, recipe = sample_table([modality], ["regression"], rows=8)
    column = recipe["inputs"][f"in_{modality}"]["columns"][0]
    preparation, _ = prepare(columns, **recipe)
    broken: Columns = {**columns, column: [*columns[column][:3], UNUSABLE[modality], *columns[column][4:]]}
    errors = CellErrors()
    with pytest.raises(DataError):
        preparation.prepare(table_of(broken), CellErrors(strict=True), folder=None, cache=None)
    prepared = preparation.prepare(table_of(broken), errors, folder=None, cache=None)
    assert [(error.row, error.column, error.table) for error in errors.errors] == [(3, column, "table")]
    assert errors.errors[0].reason
    gap = {**columns, column: [*columns[column][:3], None, *columns[column][4:]]}
    without = preparation.prepare(table_of(gap), CellErrors(strict=True), folder=None, cache=None)
    rows = np.arange(8)
    one, other = (preparation.batch(found, rows).inputs[f"in_{modality}"] for found in (prepared, without))
    assert one.present.tolist() == other.present.tolist()
    assert one.index.tolist() == other.index.tolist()
    assert all((one.data[name] == other.data[name]).all() for name in one.data)


def test_prediction_warns_of_unusable_cells_and_strict_refuses(model: Model) -> None:
    columns = make_planted_table(10, 2)
    clean = model.predict_proba(columns)
    columns["length"][4] = float("inf")
    with pytest.warns(BadCellsWarning, match="row 4, column 'length'"):
        found = model.predict_proba(columns)
    others = [row for row in range(10) if row != 4]
    np.testing.assert_allclose(found[others], clean[others], atol=1e-5)
    with pytest.raises(DataError, match="row 4, column 'length'"):
        model.predict(columns, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict({**columns, "length": [*columns["length"][:4], None, *columns["length"][5:]]})
