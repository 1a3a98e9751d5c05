"""Texts, numbers, categories and targets at their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bad_input.samples import TABLE, table, train
from polymodal.core.errors import DataError
from polymodal.data.table.cell_errors import BadCellsWarning
from polymodal.model.run_record import CellErrorCounts


def test_empty_and_very_long_texts() -> None:
    """A text of a megabyte is cut; an empty or blank one counts as missing and is no bad cell."""
    columns = table()
    columns["note"] = [f"the note of row {row}" for row in range(len(columns["maker"]))]
    columns["note"][1], columns["note"][2], columns["note"][3] = "", " \n\t", "many words " * 95_000
    model = train(columns, recipe={"inputs": {"note": "text", "length": "number"}})
    assert model.run.cell_errors.count == 0
    first = {**{name: cells[:4] for name, cells in columns.items()}}
    found = model.predict_proba(first)
    assert np.isfinite(found).all()
    absent = model.predict_proba({**first, "note": [first["note"][0], None, None, first["note"][3]]})
    np.testing.assert_allclose(found, absent, atol=1e-6)


def test_numbers_that_are_none() -> None:
    """NaN is a missing value, an infinite number is a bad cell. Both count as missing, and no other row changes."""
    columns = table(80)
    columns["length"][:3] = [math.nan, math.inf, -math.inf]
    model = train(columns, recipe=TABLE)
    assert model.run.cell_errors == CellErrorCounts(2, {"length": 2})
    with pytest.warns(BadCellsWarning, match="row 1, column 'length'"):
        found = model.predict_proba(columns)
    gaps = model.predict_proba({**columns, "length": [None, None, None, *columns["length"][3:]]})
    np.testing.assert_allclose(found, gaps, atol=1e-6)
    with pytest.raises(DataError, match="row 1, column 'length'"):
        train(columns, settings=["data.strict=true"], recipe=TABLE)


def test_a_constant_number() -> None:
    """Role inference ignores the column and gives the reason. A recipe with the column trains, and other values change
    nothing."""
    columns = {**table(), "same": [7.5] * 40}
    roles = {role.column: role for role in train(columns).run.roles}
    assert roles["same"].role == "ignored"
    assert "same value" in roles["same"].reason
    model = train(columns, recipe={"inputs": {"same": "number", "length": "number"}})
    found = model.predict_proba(columns)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, model.predict_proba({**columns, "same": [1e9] * 40}))


def test_unseen_categories() -> None:
    """They are encoded as rare categories, and are no bad cells."""
    columns = table()
    model = train(columns, recipe=TABLE)
    one = model.predict_proba({**columns, "maker": ["never seen"] * 40})
    other = model.predict_proba({**columns, "maker": ["nor this"] * 40})
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, other)


def test_a_class_with_one_member() -> None:
    """The row is trained on, and a note reports the class."""
    columns = table()
    columns["grade"][5] = "unique"
    model = train(columns, recipe=TABLE)
    assert "unique" in model.classes
    assert any("unique" in note for note in model.run.task_notes["grade"])


def test_a_single_class() -> None:
    columns = {**table(), "grade": ["large"] * 40}
    with pytest.raises(
        DataError,
        match=r"column 'grade': classification needs at least two classes; the training rows have only 'large'",
    ):
        train(columns, recipe=TABLE)


@pytest.mark.parametrize(("target", "gap"), [("grade", None), ("price", None), ("price", math.nan)])
def test_a_target_with_gaps(target: str, gap: float | None) -> None:
    """Rows without a target are neither trained on nor scored, but they get a prediction."""
    columns = table(80)
    for row in range(0, 80, 4):
        columns[target][row] = gap
    model = train(columns, target, recipe=TABLE)
    assert len(model.predict(columns)) == 80
    known = [row for row in range(80) if row % 4]
    some = {name: [cells[row] for row in known] for name, cells in columns.items()}
    gaps, whole = model.evaluate(columns)[target], model.evaluate(some)[target]
    for metric, score in gaps.items():
        assert (score["rows"], sum(score["left_out"].values())) == (60, 20)
        numbers = {key: value for key, value in score.items() if key not in ("left_out", "training_rows")}
        assert numbers.items() <= whole[metric].items()


def test_a_target_without_any_value() -> None:
    with pytest.raises(DataError, match="column 'grade'"):
        train({**table(), "grade": [None] * 40}, recipe=TABLE)


def test_duplicate_column_names() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table())
    frame.columns = ["length", "length", *frame.columns[2:]]
    with pytest.raises(DataError, match="length"):
        train(frame)


def test_a_column_that_prediction_lacks() -> None:
    columns = table()
    model = train(columns, recipe=TABLE)
    columns["makers"] = columns.pop("maker")
    with pytest.raises(DataError, match=r"column 'maker'.*did you mean 'makers'"):
        model.predict(columns)


def test_no_rows() -> None:
    with pytest.raises(DataError, match="no rows"):
        train({name: [] for name in table()})
