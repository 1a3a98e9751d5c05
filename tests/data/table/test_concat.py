"""Concatenated tables: every cell is in its place, cell errors name their own file, type conflicts name both tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from polymodal.core.errors import DataError
from polymodal.data.partition import make_folds, make_splits
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.concat import ConcatTable, open_data
from polymodal.data.table.table import ColumnTable, Table, open_table
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.data import LimitOptions, SplitOptions
from polymodal.recipe.recipe import Recipe


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(cache: Path, **tables: Any) -> ConcatTable:
    found = open_data(tables, cache=cache)
    assert isinstance(found, ConcatTable)
    return found


def cells(table: Table, column: str, rows: Any = None) -> list[Any]:
    values = table.values(column, np.arange(len(table)) if rows is None else np.asarray(rows))
    return values.to_pylist() if isinstance(values, pa.ChunkedArray) else values


def picture(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (grey, grey, grey)).save(path)


def test_the_union_of_columns_with_gaps_and_numbers_as_decimals(cache: Path) -> None:
    table = opened(cache, one={"x": [1, 2], "t": ["a", "b"]}, other={"x": [0.5, None, 3.0], "y": [True, False, None]})
    assert table.columns == ["x", "t", "y"]
    assert len(table) == 5
    assert cells(table, "x") == [1.0, 2.0, 0.5, None, 3.0]
    assert cells(table, "t") == ["a", "b", None, None, None]
    assert cells(table, "y") == [None, None, True, False, None]
    assert cells(table, "x", [4, 0, 0, 2]) == [3.0, 1.0, 1.0, 0.5]
    assert [str(table.column_type(column)) for column in table.columns] == ["double", "string", "bool"]
    assert table.data_sets == ("one", "other")
    assert table.data_set.tolist() == [0, 0, 1, 1, 1]


def test_blocks_have_every_row_once_with_its_own_table_and_number(cache: Path) -> None:
    table = opened(cache, one={"x": list(range(7))}, other={"x": list(range(100, 105)), "y": list("abcde")})
    seen = []
    for block in table.blocks(np.array([1, 3, 6, 7, 8, 11]), ["x", "y"], 2, errors=CellErrors(), limits=LimitOptions()):
        seen += [
            (block.table, int(row), x, y)
            for row, x, y in zip(block.rows, block.cells("x"), block.cells("y"), strict=True)
        ]
    one = [("one", row, row, None) for row in (1, 3, 6)]
    assert seen == [*one, ("other", 0, 100, "a"), ("other", 1, 101, "b"), ("other", 4, 104, "e")]


def test_what_may_be_given(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    frame = pd.DataFrame({"x": [1, 2]})
    for place in ("a/train.csv", "b/train.csv", "b/more.csv"):
        frame.to_csv(tmp_path / place, index=False)
    listed = open_data([tmp_path / "a/train.csv", tmp_path / "b/train.csv", tmp_path / "b/more.csv"], cache=cache)
    assert listed.data_sets == ("a/train", "b/train", "more")
    assert open_data([frame, pa.table({"x": [3]})], cache=cache).data_sets == ("table 1", "table 2")
    assert open_data([str(tmp_path / "b/more.csv")], cache=cache).data_sets == ()
    rows = open_data([{"x": 1}, {"x": 2}], cache=cache)  # rows, as ever
    assert rows.data_sets == ()
    assert cells(rows, "x") == [1, 2]
    columns = open_data({"x": [1, 2], "y": ["a", "b"]}, cache=cache)  # columns, as ever
    assert columns.columns == ["x", "y"]
    assert open_data(listed, cache=cache) is listed
    with pytest.raises(DataError, match="no such file"):
        open_data([tmp_path / "a/train.csv", tmp_path / "a/trian.csv"], cache=cache)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ([1, 2], ["a", "b"], "numbers.*texts"),
        ([True, False], [1, 2], "booleans.*numbers"),
        ([[1.0], [2.0]], [["a"], ["b"]], "lists of numbers.*lists of texts"),
        ([np.zeros((2, 2))], [1], "images or arrays.*numbers"),
    ],
)
def test_a_clash_names_both_tables_and_only_where_the_column_is_read(
    one: list[Any], other: list[Any], said: str, cache: Path
) -> None:
    table = opened(cache, first={"x": one, "id": [0] * len(one)}, second={"x": other})
    assert cells(table, "id")[-1] is None
    with pytest.raises(DataError, match=f"column 'x'.*first has {said.replace('.*', '.*second has ')}"):
        cells(table, "x")
    assert len(table.fingerprint()) == 32


def test_paths_and_images_in_one_column(tmp_path: Path, cache: Path) -> None:
    picture(tmp_path / "a.png", 10)
    table = opened(
        cache,
        files=ColumnTable({"image": pa.chunked_array([["a.png"]])}, name="files", root=tmp_path),
        memory={"image": [Image.new("RGB", (32, 32), (10, 10, 10))]},
    )
    assert table.column_type("image") is None
    prepared = prepare(table, CellErrors())
    assert prepared.inputs["image"].index.tolist() == [0, 1]


def prepare(table: Table, errors: CellErrors) -> Any:
    recipe = Recipe(inputs={"image": {"modality": {"name": "image", "image_size": 32}}}, outputs={})
    preparation = Preparation(recipe.with_size_defaults())
    preparation.fit(table, np.arange(len(table)))
    return preparation.prepare(table, errors, folder=None, cache=None)


def test_media_start_from_their_own_folder_and_equal_contents_are_one_item(tmp_path: Path, cache: Path) -> None:
    picture(tmp_path / "a" / "p.png", 10)
    picture(tmp_path / "a" / "q.png", 90)
    picture(tmp_path / "b" / "p.png", 200)
    picture(tmp_path / "b" / "same.png", 90)
    pd.DataFrame({"image": ["p.png", "q.png"], "y": [1, 2]}).to_csv(tmp_path / "a" / "a.csv", index=False)
    pd.DataFrame({"image": ["p.png", "same.png", "gone.png"]}).to_csv(tmp_path / "b" / "b.csv", index=False)
    table = open_data([tmp_path / "a" / "a.csv", tmp_path / "b" / "b.csv"], cache=cache)
    errors = CellErrors()
    prepared = prepare(table, errors)
    index = prepared.inputs["image"].index
    greys = prepared.inputs["image"].items.take(index[:4])["pixels"][:, 0, 0, 0]
    assert greys.tolist() == [10, 90, 200, 90]
    assert index[1] == index[3]  # the same picture in both tables
    assert len(set(index[:4].tolist())) == 3
    assert [(error.table, error.row, error.file) for error in errors.errors] == [("b.csv", 2, "gone.png")]
    assert prepared.data_set.tolist() == [0, 0, 1, 1, 1]
    sample = table.sample("image")
    assert {(sample.root / cell).is_file() for cell in sample.values if "gone" not in cell} == {True}


def test_a_sample_is_of_the_tables_that_have_the_column(cache: Path) -> None:
    table = opened(cache, large={"x": list(range(5000))}, small={"x": [1] * 50, "y": ["yes", "no"] * 25})
    sample = table.sample("y", limit=40)
    assert (len(sample.values), sample.nulls, sample.rows) == (40, 0, 50)


def test_strict_bad_cells_name_the_row_of_their_own_table(tmp_path: Path, cache: Path) -> None:
    table = opened(cache, one={"x": ["1", "2"]}, other={"x": ["3", "oops"]})
    preparation = Preparation(Recipe(inputs={"x": "number"}, outputs={}).with_size_defaults())
    preparation.fit(table, np.arange(3))
    with pytest.raises(DataError, match="row 1, column 'x', other"):
        preparation.prepare(table, CellErrors(strict=True), folder=None, cache=None)


def test_random_splits_and_folds_keep_the_share_of_each_data_set(cache: Path) -> None:
    table = opened(cache, large={"x": list(range(900)), "y": ["a", "b", "c"] * 300}, small={"x": list(range(100))})
    for outputs in ({"x": "regression"}, {"x": "regression", "y": "classification"}):
        recipe = Recipe(outputs=outputs, data={"split": SplitOptions(validation_size=0.1, test_size=0.2)})
        for part, wanted in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
            rows = make_splits(recipe, table, None, None)[part].rows
            shares = np.bincount(table.data_set[rows]) / [900, 100]
            assert np.abs(shares - wanted).max() <= 0.021
        for _, fold in make_folds(recipe, table, 5):
            assert np.bincount(table.data_set[fold]).tolist() == [180, 20]


def test_strata_are_classes_within_data_sets(cache: Path) -> None:
    """The class shares differ between the data sets: either alone would not keep them."""
    table = opened(cache, one={"y": ["a"] * 90 + ["b"] * 10}, other={"y": ["a"] * 10 + ["b"] * 90})
    for _, fold in make_folds(Recipe(outputs={"y": "classification"}), table, 10):
        of = list(zip(table.data_set[fold].tolist(), cells(table, "y", fold), strict=True))
        assert [of.count(one) for one in ((0, "a"), (0, "b"), (1, "a"), (1, "b"))] == [9, 1, 1, 9]


def test_a_table_next_to_it_gets_its_columns(cache: Path) -> None:
    train = opened(cache, one={"x": [1], "y": ["a"]}, other={"x": [2], "z": [0.5]})
    test = opened(cache, one={"x": [3], "y": ["b"]}).with_columns_of(train)
    assert cells(test, "z") == [None]
    assert str(test.column_type("z")) == "double"


def test_the_fingerprint_is_that_of_the_contents(tmp_path: Path, cache: Path) -> None:
    one, other = {"x": [1, 2]}, {"x": [3]}
    same = opened(cache, a=one, b=other).fingerprint()
    assert same == opened(cache, a=open_table(one, cache=cache), b=pd.DataFrame(other)).fingerprint()
    assert same != opened(cache, a=one, b={"x": [4]}).fingerprint()
    assert same != opened(cache, a={"x": [1]}, b={"x": [2, 3]}).fingerprint()
