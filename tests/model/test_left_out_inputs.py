"""What a model predicts from: rows that leave out inputs, and texts that are no files."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import polymodal
from command_line import run_command
from polymodal.core.errors import DataError
from polymodal.data.table.cell_errors import BadCellsWarning
from polymodal.model.model import Model
from polymodal.model.rows import MissingColumnWarning

SETTINGS = ["training.epochs=1", "hidden_size=8", "evaluation.bootstrap_samples=0", "evaluation.unimodal_scores=none"]
KINDS = ["red", "blue"]


def row(i: int) -> dict[str, Any]:
    return {
        "photo": Image.new("RGB", (16, 16), KINDS[i % 2]),
        "title": f"a {KINDS[i % 2]} thing number {i} of the shop",
        "brand": ["acme", "other"][i % 2],
        "price": 1.5 * i,
        "size": 0.5 + i,
    }


@pytest.fixture(scope="module")
def model() -> Model:
    rows = [{**row(i), "kind": KINDS[i % 2]} for i in range(40)]
    inputs = {"photo": "image", "title": "text", "brand": "category", "numbers": {"modality": "number"}}
    inputs["numbers"] |= {"columns": ["price", "size"]}  # type: ignore[operator]
    return polymodal.fit(rows, "kind", recipe={"inputs": inputs}, settings=SETTINGS)


@pytest.mark.parametrize("name", ["photo", "title", "brand", "price", "size"])
def test_an_input_that_a_row_leaves_out_is_missing(model: Model, name: str) -> None:
    whole = row(3)
    left_out = {key: cell for key, cell in whole.items() if key != name}
    expected = model.predict_proba({**whole, name: None})
    for data in (left_out, [left_out, left_out], [left_out, {**left_out, "surplus": 1}]):
        with pytest.warns(
            MissingColumnWarning, match=f"the rows have no column '{name}': this input of the model counts"
        ):
            got = model.predict_proba(data)
        assert np.allclose(got, expected, atol=1e-6)
    with pytest.warns(MissingColumnWarning):
        assert model.embed(left_out).shape == model.embed(whole).shape


def test_several_inputs_are_named_in_one_warning_at_the_line_of_the_caller(model: Model) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        model.predict({"title": "a red thing"})
    [one] = caught
    assert str(one.message).startswith("the rows have no columns 'photo', 'brand', 'price', 'size': these inputs of")
    assert (one.filename, one.lineno) == (__file__, line)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "evaluate", "embed", "robustness"])
def test_bad_cells_are_a_warning_at_the_line_of_the_caller(model: Model, method: str) -> None:
    rows = [{**row(i), "kind": KINDS[i % 2]} for i in range(4)] + [{**row(4), "photo": b"no image", "kind": "red"}]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        getattr(model, method)(rows)
    [one] = [found for found in caught if found.category is BadCellsWarning]
    assert (one.filename, one.lineno) == (__file__, line)
    assert "1 cell could not be used and counts as missing: row 4" in str(one.message)


def test_a_cell_that_one_row_leaves_out_needs_no_warning(model: Model) -> None:
    short = {key: cell for key, cell in row(3).items() if key != "title"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = model.predict_proba([row(2), short])
        assert np.allclose(both[1:], model.predict_proba({**short, "title": None}), atol=1e-6)


def test_a_misspelled_input_is_an_error(model: Model) -> None:
    wrong = {**row(3), "titel": "a red thing"}
    del wrong["title"]
    with pytest.raises(DataError, match="column 'title': the rows do not have this column; did you mean 'titel'"):
        model.predict(wrong)


def test_a_row_without_any_input_is_an_error(model: Model) -> None:
    for data in ({"id": 1}, [{"id": 1}, {}]):
        with pytest.raises(DataError, match="the model needs this column, and it is missing"):
            model.predict(data)


def test_a_table_has_the_columns_of_all_inputs(model: Model, tmp_path: Path) -> None:
    columns = {"title": ["a", "b"], "brand": ["acme", "other"], "price": [1.0, 2.0], "size": [1.0, 2.0]}
    pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
    for data in (columns, pd.DataFrame(columns), str(tmp_path / "t.csv")):
        with pytest.raises(DataError, match=r"column 'photo'.*the column must exist, and its cells may be empty"):
            model.predict(data)


def test_targets_are_never_left_out(model: Model) -> None:
    with pytest.raises(DataError, match="column 'kind'"):
        model.evaluate([row(1), row(2)])


@pytest.mark.parametrize("text", ["a red car", "red", "a/b", "x" * 5000, "a\0b", "\x1b[2Jred"])
def test_a_text_that_is_no_file_is_told_to_be_a_cell(model: Model, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    with pytest.raises(DataError, match="is no file or folder; give one row as a dict of its cells") as caught:
        model.predict(text)
    assert Path(__file__).name not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_file_that_does_not_exist_does_not_list_the_folder(model: Model, tmp_path: Path) -> None:
    (tmp_path / "private notes of mine.txt").touch()
    (tmp_path / "products.csv").touch()
    with pytest.raises(DataError, match="its folder has no file with a similar name"):
        model.predict(str(tmp_path / "zzz.parquet"))
    with pytest.raises(DataError, match=r"did you mean 'products\.csv'"):
        model.predict(str(tmp_path / "product.csv"))


def test_the_command_line_prints_a_note(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    done = run_command("predict", "model", json.dumps({"title": "a red thing"}), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note  the rows have no columns 'photo', 'brand', 'price', 'size'")
    assert done.stderr.count("\n") == 1
