"""CSV files as programs write them: separators, encodings, and what was assumed about them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import pytest

from data.table.cells import cells
from polymodal.core.errors import DataError
from polymodal.data.table.arrow_cache import AssumedFormatWarning
from polymodal.data.table.table import Table, open_table
from polymodal.model.rows import open_rows

ROWS = pd.DataFrame(
    {
        "name": ["Müller & Söhne", "Café René", None, "naïve, quoted"],
        "price": [1.5, 2.0, None, 4.25],
        "count": [1, 2, 3, 4],
    }
)
POLISH = pd.DataFrame({"name": ["Łukasz", "Żaneta", "Łódź"], "n": [1, 2, 3]})
RUSSIAN = pd.DataFrame({"name": ["Иван", "Ольга"], "n": [1, 2]})


def as_parquet(frame: pd.DataFrame, tmp_path: Path) -> Table:
    frame.to_parquet(tmp_path / "reference.parquet")
    return open_table(tmp_path / "reference.parquet", cache=tmp_path / "cache")


def write(frame: pd.DataFrame, path: Path, separator: str = ",", encoding: str = "utf-8") -> Path:
    frame.to_csv(path, index=False, sep=separator, encoding=encoding)
    return path


def assumed(source: object, tmp_path: Path) -> tuple[Table, str]:
    """The table, and what was assumed about its file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = open_table(source, cache=tmp_path / "cache")
    return table, "; ".join(str(one.message) for one in caught if one.category is AssumedFormatWarning)


@pytest.mark.parametrize(
    ("separator", "name"), [(",", ""), (";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
@pytest.mark.parametrize(
    ("encoding", "read"), [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", "UTF-16"), ("cp1252", "Windows-1252")]
)
def test_separators_and_encodings_are_found_and_stated(
    separator: str, name: str, encoding: str, read: str, tmp_path: Path
) -> None:
    path = write(ROWS, tmp_path / "t.csv", separator, encoding)
    for _ in range(2):  # also from the cache
        table, note = assumed(path, tmp_path)
        assert cells(table) == cells(as_parquet(ROWS, tmp_path))
        assert name in note
        assert read in note
        assert bool(note) == bool(name or read)


def test_a_comma_in_a_header_does_not_hide_the_separator(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("price, EUR;x\n1,5;2\n3;4\n")
    table, note = assumed(tmp_path / "t.csv", tmp_path)
    assert table.columns == ["price, EUR", "x"]
    assert "semicolons" in note


@pytest.mark.parametrize(("frame", "encoding"), [(POLISH, "cp1250"), (RUSSIAN, "cp1251"), (RUSSIAN, "gb18030")])
def test_an_encoding_that_is_not_known_is_refused_until_it_is_named(
    frame: pd.DataFrame, encoding: str, tmp_path: Path
) -> None:
    path = write(frame, tmp_path / "t.csv", ";", encoding)
    with pytest.raises(
        DataError, match=r"encoding is not known; line \d reads .* name it, as in t.csv#encoding="
    ) as error:
        open_table(path, cache=tmp_path / "cache")
    assert f"{frame['name'][0]}" in str(error.value)
    table, note = assumed(f"{path}#encoding={encoding}&separator=semicolon", tmp_path)
    assert cells(table) == cells(as_parquet(frame, tmp_path))
    assert note == ""
    assert cells(open_rows(f"{path}#encoding={encoding}", None, ["name"])) == cells(table)


def test_any_separator_may_be_named(tmp_path: Path) -> None:
    path = write(ROWS, tmp_path / "t.csv", "^")
    assert cells(open_table(f"{path}#separator=^", cache=tmp_path / "cache")) == cells(as_parquet(ROWS, tmp_path))
    (tmp_path / "a#separator=x").write_text("")
    write(ROWS, tmp_path / "a#b.csv")  # a name that exists is a name
    assert len(open_table(tmp_path / "a#b.csv", cache=tmp_path / "cache")) == len(ROWS)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("seperator=;", "did you mean 'separator'"),
        ("separator=ab", "must be one ASCII character, or comma"),
        ("encoding=latin9x", "there is no encoding 'latin9x'; some are utf-8"),
        ("encoding=utf-8", "line 2 is not UTF-8"),
        ("encoding=ascii", "the file is not ascii: after 18 bytes"),
        ("Sheet1", "'Sheet1' after '#' is not separator="),
    ],
)
def test_a_wrong_form_is_named(part: str, message: str, tmp_path: Path) -> None:
    path = write(ROWS, tmp_path / "t.csv", encoding="cp1252")
    with pytest.raises(DataError, match=message) as error:
        open_table(f"{path}#{part}", cache=tmp_path / "cache")
    assert "t.csv" in str(error.value)


def test_a_bad_line_of_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("größe;b\n1;2\n3\n".encode("cp1252"))
    with pytest.raises(
        DataError, match=r"line 3 has 1 cells, the header has 2 \(cells separated by semicolons\)"
    ) as error:
        open_table(tmp_path / "t.csv", cache=tmp_path / "cache")
    assert str(tmp_path / "t.csv") in str(error.value)
    assert [one.name for one in (tmp_path / "cache").iterdir()] == []
