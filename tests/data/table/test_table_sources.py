"""What is accepted as a table in memory, and the message for everything else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from PIL import Image

from polymodal.core.errors import DataError
from polymodal.data.table.concat import ConcatTable, open_data
from polymodal.data.table.table import Table

COLUMNS = {"length": [1.5, 2.5, 3.5], "maker": ["east", "west", None]}


def read(source: Any, tmp_path: Path) -> Table:
    return open_data(source, cache=tmp_path)


def cells(table: Table) -> dict[str, list[Any]]:
    found = {name: table.values(name, np.arange(len(table))) for name in table.columns}
    return {name: values if isinstance(values, list) else values.to_pylist() for name, values in found.items()}


class Relation:
    """What DuckDB, and libraries like it, return: an object that exports an Arrow stream."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.table(COLUMNS).__arrow_c_stream__(requested_schema)


class Dataset:
    """The interface of `datasets.Dataset`: its Arrow table does not know which of its rows are selected."""

    features = {"length": "float64", "maker": "string"}

    def __init__(self, rows: list[int], form: str | None = None) -> None:
        self.rows, self.form = rows, form
        self.data = pa.table(COLUMNS)

    @property
    def column_names(self) -> list[str]:
        return list(COLUMNS)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: slice) -> pa.Table:
        assert self.form == "arrow"
        return self.data.take(self.rows[key])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        raise AssertionError("rows are read at once, not one by one")

    def with_format(self, form: str) -> Dataset:
        return Dataset(self.rows, form)


class DatasetDict(dict[str, Any]):
    """The interface of `datasets.DatasetDict`."""


@pytest.mark.parametrize(
    "source",
    [
        pa.table(COLUMNS).to_reader(),
        pa.table(COLUMNS).to_batches()[0],
        Relation(),
        Dataset([0, 1, 2]),
        pd.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS),
    ],
    ids=lambda source: type(source).__name__,
)
def test_what_exports_arrow_is_a_table(source: Any, tmp_path: Path) -> None:
    assert cells(read(source, tmp_path)) == COLUMNS


def test_only_the_selected_rows_of_a_data_set_are_read(tmp_path: Path) -> None:
    assert cells(read(Dataset([2, 0]), tmp_path))["length"] == [3.5, 1.5]


def test_a_stream_that_was_read_is_an_error(tmp_path: Path) -> None:
    reader = pa.table(COLUMNS).to_reader()
    read(reader, tmp_path)
    with pytest.raises(DataError, match=r"no rows|read only once"):
        read(reader, tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (pd.Series([1, 2]), r"series\.to_dict\(\).*series\.to_frame\(\)"),
        (pl.Series([1, 2]), r"series\.to_frame\(\)"),
        (np.zeros((3, 2)), r"array of shape \(3, 2\) has no column names.*pandas\.DataFrame\(array"),
        (torch.zeros(3), "has no column names"),
        (pa.array([1, 2]), "one column: give a dict"),
        (pa.chunked_array([[1, 2]]), "one column: give a dict"),
        (pl.LazyFrame(COLUMNS), r"collect\(\)"),
        (iter([COLUMNS]), "not list_iterator: give a list of dicts"),
        ((row for row in [COLUMNS]), "not generator: give a list of dicts"),
        ({1, 2}, "a set has no order"),
        (range(3), "not range"),
        (b"a,b", "write it to a file"),
        (Image.new("RGB", (2, 2)), "one cell: give a row"),
        (3, "not int"),
        (dt.date(2026, 1, 1), "not date"),
        ([1, 2], "row 0: a row must be a dict, such as .*, not int"),
    ],
)
def test_what_is_no_table_is_refused_with_the_way_to_make_one(source: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(source, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        DatasetDict(train=Dataset([0, 1]), test=Dataset([2])),
        DatasetDict(one=Dataset([0, 1])),
        {"train": pd.DataFrame(COLUMNS), "test": pd.DataFrame(COLUMNS)},
        {"train": COLUMNS, "validation": COLUMNS},
    ],
)
def test_the_splits_of_a_data_set_are_not_joined(source: Any, tmp_path: Path) -> None:
    """Joined, the test rows of the author would be training rows."""
    with pytest.raises(DataError, match=r"choose one of its splits, such as data\['(train|one)'\]"):
        read(source, tmp_path)


def test_other_mappings_of_tables_are_data_sets(tmp_path: Path) -> None:
    table = read({"shop": pd.DataFrame(COLUMNS), "museum": Relation()}, tmp_path)
    assert isinstance(table, ConcatTable)
    assert table.data_sets == ("shop", "museum")
    assert len(read([pa.table(COLUMNS).to_batches()[0], Dataset([1])], tmp_path)) == 4


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({1: [1], "1": [2]}, "several columns have the name '1'"),
        ({"a\0b": [1]}, r"the column name 'a\\x00b' is no valid text"),
        ({"\ud800": [1]}, "is no valid text"),
    ],
)
def test_names_of_columns_are_valid_texts(columns: dict[Any, list[int]], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(columns, tmp_path)
    with pytest.raises(DataError, match=message):
        read([{name: column[0] for name, column in columns.items()}], tmp_path)


def test_intervals_are_ignored_with_a_reason(tmp_path: Path) -> None:
    """`pandas.cut` makes them, in a categorical column."""
    from polymodal.workflows.fit import plan_fit

    frame = pd.DataFrame({"x": [n % 7 + 0.5 for n in range(24)], "y": ["a", "b"] * 12})
    frame["band"] = pd.cut(frame["x"], 3)
    plan, _ = plan_fit(frame, "y")
    roles = {role.column: role for role in plan.roles}
    assert roles["band"].role == "ignored"
    assert roles["band"].reason


@pytest.mark.parametrize("target", [1, "1", [1], np.int64(1)])
def test_a_frame_with_whole_numbers_as_names(target: Any) -> None:
    from polymodal.workflows.fit import plan_fit

    frame = pd.DataFrame({0: [n % 7 + 0.5 for n in range(24)], 1: ["a", "b"] * 12})
    plan, _ = plan_fit(frame, target)
    assert list(plan.recipe.outputs) == ["1"]
    plan, _ = plan_fit(frame, 0)
    assert list(plan.recipe.outputs) == ["0"]
