"""Excel files, written by openpyxl and pandas."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from data.table.cells import cells
from polymodal.core.errors import DataError
from polymodal.data.table.table import Table, open_table

openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")

ROWS = pd.DataFrame(
    {
        "name": ["Müller", None, "Søren; Ltd"],
        "n": [1, 2, 3],
        "price": [1.5, None, 3.0],
        "day": pd.to_datetime(["2026-01-01 00:00:00", "2026-02-03 10:20:30", None]),
        "new": [True, False, True],
    }
)


def read(source: object, tmp_path: Path) -> Table:
    return open_table(source, cache=tmp_path / "cache")


def test_a_sheet_has_the_rows_of_parquet(tmp_path: Path) -> None:
    ROWS.to_parquet(tmp_path / "t.parquet")
    ROWS.to_excel(tmp_path / "t.xlsx", index=False)
    expected, found = read(tmp_path / "t.parquet", tmp_path), read(tmp_path / "t.xlsx", tmp_path)
    assert cells(found) == cells(expected)
    kinds = {name: str(found.column_type(name)).partition("[")[0] for name in found.columns}
    assert kinds == {name: str(expected.column_type(name)).partition("[")[0] for name in expected.columns}
    assert found.root == tmp_path
    assert cells(read(f"{tmp_path}/t.xlsx#Sheet1", tmp_path)) == cells(expected)


def test_a_sheet_is_named_where_there_are_several(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "t.xlsx") as writer:
        ROWS[["n"]].to_excel(writer, sheet_name="Old prices", index=False)
        ROWS[["name"]].to_excel(writer, sheet_name="New", index=False)
    with pytest.raises(DataError, match=r"sheets 'Old prices', 'New': name one of them, as in t.xlsx#Old prices"):
        read(tmp_path / "t.xlsx", tmp_path)
    assert cells(read(f"{tmp_path}/t.xlsx#Old prices", tmp_path)) == {"n": [1, 2, 3]}
    assert cells(read(f"{tmp_path}/t.xlsx#New", tmp_path))["name"][0] == "Müller"
    with pytest.raises(DataError, match=r"no sheet 'new'; did you mean 'New'"):
        read(f"{tmp_path}/t.xlsx#new", tmp_path)


def book(rows: list[list[object]], path: Path) -> Path:
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    made.save(path)
    return path


def test_empty_rows_and_columns_and_mixed_cells(tmp_path: Path) -> None:
    rows = [[], ["a", None, "b"], [1, "x", "y"], [], [2.5, None, 7], ["#DIV/0!", None, dt.date(2026, 1, 2)]]
    assert cells(read(book(rows, tmp_path / "t.xlsx"), tmp_path)) == {
        "a": ["1", "2.5", "#DIV/0!"],
        "unnamed_2": ["x", None, None],
        "b": ["y", "7", "2026-01-02T00:00:00"],
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a"], [1], [2, 3]], "row 3 has 2 cells, the header has 1"),
        ([["a", "a"], [1, 2]], "several columns have the name 'a'"),
        (
            [["a", "b"], [1, "=A2*2"]],
            "row 2: the formula '=A2\\*2' has no stored value; open the file",
        ),
        ([["a"]], "no rows"),
        ([], "no rows"),
    ],
)
def test_a_bad_sheet_is_refused(rows: list[list[object]], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(book(rows, tmp_path / "t.xlsx"), tmp_path)
    assert "t.xlsx" in str(error.value)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = book([["a"], *([n] for n in range(500))], tmp_path / "t.xlsx")
    for data in (b"no zip", path.read_bytes()[:-200]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"t\.xlsx: the file is damaged, protected by a password or not an Excel"):
            read(path, tmp_path)
