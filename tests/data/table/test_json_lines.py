"""JSON lines: types over the whole file, mixed cells, and bad lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from data.table.cells import cells
from polymodal.core.errors import DataError
from polymodal.data.table.table import Table, open_table


def jsonl(text: str | bytes, tmp_path: Path) -> Table:
    (tmp_path / "t.jsonl").write_bytes(text.encode() if isinstance(text, str) else text)
    return open_table(tmp_path / "t.jsonl", cache=tmp_path / "cache")


def test_json_type_is_decided_over_the_whole_file(tmp_path: Path) -> None:
    rows = 85_000
    lines = [f'{{"late": {i}, "list": [1, 2], "n": {i}, "date": "2024-01-01"}}\n' for i in range(rows)]
    lines.append('{"late": "last", "list": [0.5], "n": 1.5, "date": "soon", "new": {"k": 1}}\n')
    assert sum(map(len, lines)) > 9 << 19
    table = jsonl("".join(lines), tmp_path)
    kinds = {column: str(table.column_type(column)) for column in table.columns}
    assert kinds["late"] == kinds["date"] == "string"
    assert kinds["n"] == "double"
    assert table.column_type("list") == pa.list_(pa.float64())
    ends = np.array([0, rows])
    assert table.values("late", ends).to_pylist() == ["0", "last"]
    assert table.values("list", ends).to_pylist() == [[1.0, 2.0], [0.5]]
    assert table.values("new.k", ends).to_pylist() == [None, 1]


def test_json_mixed_cells_become_text(tmp_path: Path) -> None:
    table = jsonl('{"a": 1}\n{"a": "x"}\n\n{"a": [true, null]}\n{"b": 9999999999999999999999}\n', tmp_path)
    assert cells(table) == {
        "a": ["1", "x", "[true, null]", None],
        "b": [None, None, None, "9999999999999999999999"],
    }


BAD_JSON = {
    "broken": ('{"a": 1}\n{"a": \n', "line 2 is not JSON"),
    "not an object": ('{"a": 1}\n\n[1]\n', "line 3 is not a JSON object"),
    "latin": ('{"a": "ü"}'.encode("latin-1"), "line 1 is not UTF-8"),
    "nothing": ("", "no rows"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json(case: str, tmp_path: Path) -> None:
    text, message = BAD_JSON[case]
    with pytest.raises(DataError, match=message):
        jsonl(text, tmp_path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (r'{"a": "\ud800"}', "line 2 has half a surrogate pair"),
        ('{"a": ' + "1" * 5000 + "}", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('{"a": 1} {"a": 2}', "line 2 is not JSON"),
    ],
)
def test_a_line_that_no_table_holds_is_named(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": "x"}\n' + line + "\n")
    with pytest.raises(DataError, match=problem):
        open_table(tmp_path / "t.jsonl", cache=tmp_path / "cache")


def test_a_key_given_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1, "b": 2}\n{"a": 1, "a": 2}\n')
    with pytest.raises(DataError, match=r"line 2 is not JSON .the key 'a' is given twice"):
        open_table(path, cache=tmp_path / "cache")
