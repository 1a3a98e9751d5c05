"""Answers have the form of the rows: pandas in, pandas out with its index; the same for polars and Arrow."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import polymodal
from polymodal.model.model import Model

SETTINGS = {"evaluation.bootstrap_samples": 0, "training.num_threads": 1, "network": False}
LENGTHS = [1.0, 1.2, 5.0, 5.1] * 10
KINDS = {
    "texts": ["short", "short", "long", "long"] * 10,
    "integers": [1, 1, 7, 7] * 10,
    "booleans": [False, False, True, True] * 10,
}
NEW = {"length": [1.1, 5.2, 1.0]}
INDEX = ["a", "b", "a"]


@cache
def model(*targets: str) -> Model:
    columns: dict[str, list[Any]] = {"length": LENGTHS, "price": [2 * one for one in LENGTHS], **KINDS}
    given = {"length": columns["length"], **{name: columns[name] for name in targets}}
    fitted: Model = polymodal.fit(given, list(targets), quality="fast", settings=SETTINGS)
    return fitted


@pytest.mark.parametrize("target", [*KINDS, "price"])
def test_one_output(target: str) -> None:
    fitted, frame = model(target), pd.DataFrame(NEW, index=INDEX)
    wanted, numbers = fitted.predict(NEW), fitted.predict_proba(NEW)
    assert isinstance(wanted, list)
    found = fitted.predict(frame)
    pd.testing.assert_series_equal(found, pd.Series(wanted, index=INDEX, name=target))
    assert found.dtype.kind == {"integers": "i", "booleans": "b", "price": "f"}.get(target, found.dtype.kind)
    expected = pd.DataFrame(numbers, index=INDEX, columns=fitted.classes)
    pd.testing.assert_frame_equal(fitted.predict_proba(frame), expected)
    assert set(found) <= set(fitted.predict_proba(frame).columns) or target == "price"
    series = fitted.predict(pl.DataFrame(NEW))
    assert (series.name, series.to_list()) == (target, wanted)
    assert fitted.predict(pa.table(NEW)).to_pylist() == wanted
    names = [str(one) for one in fitted.classes]
    for table in (fitted.predict_proba(pl.DataFrame(NEW)).to_arrow(), fitted.predict_proba(pa.table(NEW))):
        assert table.column_names == names
        np.testing.assert_array_equal(np.stack([table[name].to_numpy() for name in names], 1), numbers)


def test_several_outputs() -> None:
    fitted, frame = model("texts", "price"), pd.DataFrame(NEW, index=INDEX)
    wanted = fitted.predict(NEW)
    pd.testing.assert_frame_equal(fitted.predict(frame), pd.DataFrame(wanted, index=INDEX))
    assert fitted.predict(pl.DataFrame(NEW)).to_dict(as_series=False) == wanted
    assert fitted.predict(pa.table(NEW)).to_pydict() == wanted
    numbers = fitted.predict_proba(frame)
    assert list(numbers) == ["texts", "price"]
    assert numbers["texts"].columns.tolist() == ["long", "short"]


def test_rows_that_are_not_a_frame_give_lists_and_arrays() -> None:
    rows = [{"length": one} for one in NEW["length"]]
    assert model("texts").predict(rows) == model("texts").predict(NEW)
    assert isinstance(model("texts").predict_proba(rows), np.ndarray)


def test_a_small_table_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """LightGBM warns on the standard output if a fold can grow no tree."""
    polymodal.fit({"length": LENGTHS, "kind": KINDS["texts"]}, "kind", quality="fast", settings=SETTINGS)
    assert capfd.readouterr().out == ""
