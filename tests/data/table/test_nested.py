"""Nested objects become columns with dotted names, in every source alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.table.cells import cells
from polymodal.core.errors import DataError
from polymodal.data.table.table import open_table
from polymodal.model.rows import open_rows

ROWS: list[dict[str, Any]] = [
    {"id": 1, "user": {"age": 3, "place": {"city": "Bonn"}}, "tags": ["a"], "photo": {"bytes": None, "path": "1.png"}},
    {"id": 2, "user": {"age": None, "place": {"city": "Köln"}}, "tags": [], "photo": {"bytes": None, "path": "2.png"}},
    {"id": 3, "user": None, "tags": ["b", "c"], "photo": {"bytes": None, "path": "3.png"}},
]
FLAT = {
    "id": [1, 2, 3],
    "user.age": [3, None, None],
    "user.place.city": ["Bonn", "Köln", None],
    "tags": [["a"], [], ["b", "c"]],
    "photo": [{"bytes": None, "path": f"{n}.png"} for n in (1, 2, 3)],
}


def test_every_source_is_flattened_alike(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    sources = [tmp_path / "a.json", tmp_path / "a.jsonl", tmp_path / "a.parquet", pa.Table.from_pylist(ROWS), ROWS]
    for source in sources:
        assert cells(open_table(source, cache=tmp_path / "cache")) == FLAT


def test_a_row_to_predict_is_flattened(tmp_path: Path) -> None:
    for source in (ROWS[0], [ROWS[0]], json.dumps(ROWS[0])):
        table = open_rows(source, None, ["user.place.city"])
        assert cells(table)["user.place.city"] == ["Bonn"]


def test_values_of_several_types_in_an_object_become_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": {"b": 1}}\n{"a": {"b": "x"}}\n{"a": {"b": 2.5}}\n{"a": 7}\n')
    assert cells(open_table(tmp_path / "a.jsonl", cache=tmp_path / "cache")) == {
        "a.b": ["1", "x", "2.5", None],
        "a": [None, None, None, 7],
    }


def test_a_series_of_several_channels_stays_a_cell(tmp_path: Path) -> None:
    rows = [{"s": {"x": [1.0, 2.0], "y": [3.0, 4.0]}}, {"s": {"x": [1.0], "y": None}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for source in (rows, tmp_path / "a.parquet"):
        assert open_table(source, cache=tmp_path / "cache").columns == ["s"]


def test_two_values_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": {"b": 1}}\n{"a": {"b": 1}, "a.b": 2}\n')
    with pytest.raises(DataError, match=r"line 2 has two values with the name 'a.b'"):
        open_table(tmp_path / "a.jsonl", cache=tmp_path / "cache")
    with pytest.raises(DataError, match=r"another column have the name 'a.b'"):
        open_table(pa.Table.from_pylist([{"a": {"b": 1}, "a.b": 2}]), cache=tmp_path / "cache")
