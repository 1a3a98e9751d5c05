"""CSV files: types over the whole file, quotes, gaps, and bad lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.table.cells import cells
from polymodal.core.errors import DataError
from polymodal.data.table.table import Table, open_table


def csv(text: str | bytes, tmp_path: Path) -> Table:
    (tmp_path / "t.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return open_table(tmp_path / "t.csv", cache=tmp_path / "cache")


def test_csv_type_is_decided_over_the_whole_file(tmp_path: Path) -> None:
    rows = 400_000  # several blocks
    lines = "".join(f"{i},{i}\n" for i in range(rows))
    table = csv(f"late,n\n{lines}last,{rows}\n", tmp_path)
    assert str(table.column_type("late")) == "string"
    assert str(table.column_type("n")) == "int64"
    assert table.values("late", np.array([0, rows])).to_pylist() == ["0", "last"]
    assert len(table.values("late", np.array([0, rows])).chunks) == 1
    assert len(table._columns["n"].chunks) > 2


def test_csv_gaps_quotes_and_mark(tmp_path: Path) -> None:
    table = csv('\ufeffn,t\n 1,"say ""hi"",\r\n\r\nyou"\nNA,NA\n,\n2.5,""\n', tmp_path)
    assert cells(table) == {"n": [1.0, None, None, 2.5], "t": ['say "hi",\r\n\r\nyou', "NA", None, ""]}


def test_csv_line_breaks_in_cells_over_several_blocks(tmp_path: Path) -> None:
    cell = "\n".join(["one, two"] * 50)
    table = csv("t,n\n" + "".join(f'"{cell}",{i}\n' for i in range(6000)), tmp_path)
    assert len(table) == 6000
    assert set(table.values("t", np.arange(6000)).to_pylist()) == {cell}


@pytest.mark.parametrize("codes", [["007", "123"], ["12345678901234567890", "1"], ["0x10", "1"], ["1_0", "2"]])
def test_csv_codes_stay_text(codes: list[str], tmp_path: Path) -> None:
    assert cells(csv("c\n" + "\n".join(codes), tmp_path)) == {"c": codes}


def test_csv_cell_larger_than_a_block(tmp_path: Path) -> None:
    long = "x" * (9 << 20)
    assert cells(csv(f"t,n\n{long},1\ny,2\n", tmp_path)) == {"t": [long, "y"], "n": [1, 2]}


BAD_CSV = {
    "few": ('a,b\n1,"x\ny"\n3\n4,5\n', "line 4 has 1 cells, the header has 2"),
    "many": ("a,b\n1,2\n\n3,4,5\n", "line 4 has 3 cells"),
    "not text": (b"a,b\n\x81\xff,2\n", "line 2 is not UTF-8, and its encoding is not known"),
    "cut UTF-16": ("a,b\n1,2\n".encode("utf-16")[:-1], "the file is not utf-16"),
    "twice": ("a,b,a\n1,2,3\n", "'a'"),
    "nothing": ("", "empty"),
    "header only": ("a,b\n", "no rows"),
    "semicolons": ("a;b\n1;2\n3\n", "line 3 has 1 cells, the header has 2 .cells separated by semicolons"),
    "open quote": ('a,b\n1,2\n3,"x\n4,5\n', "has no closing quote"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv(case: str, tmp_path: Path) -> None:
    text, message = BAD_CSV[case]
    with pytest.raises(DataError, match=message) as caught:
        csv(text, tmp_path)
    assert "t.csv" in str(caught.value)
    assert list(tmp_path.glob("cache/*.partial")) == []


def test_bad_line_in_a_late_block_leaves_no_cache_entry(tmp_path: Path) -> None:
    lines = "a,b\n" + "1,2\n" * 1_000_000
    with pytest.raises(DataError, match="line 1000002 has 3 cells"):
        csv(lines + "1,2,3\n", tmp_path)
    assert list(tmp_path.glob("cache/*")) == []
