"""Forms of files that other programs write: separators, encodings, compression, arrays of JSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymodal.core.errors import DataError
from polymodal.data.table.concat import open_data

COLUMNS: dict[str, list[Any]] = {"length": [1.5, 2.5, None], "maker": ["east", "west", "a, b"]}
CSV = 'length,maker\n1.5,east\n2.5,west\n,"a, b"\n'


def read(path: Path) -> dict[str, list[Any]]:
    table = open_data(path, cache=path.parent / "cache")
    found = {name: table.values(name, np.arange(len(table))) for name in table.columns}
    return {name: cells if isinstance(cells, list) else cells.to_pylist() for name, cells in found.items()}


@pytest.mark.parametrize("mark", [";", "\t", "|"])
@pytest.mark.filterwarnings("ignore::polymodal.data.table.arrow_cache.AssumedFormatWarning")
def test_the_separator_of_a_csv_file_is_that_of_its_header(mark: str, tmp_path: Path) -> None:
    """Spreadsheets write semicolons where the comma is the decimal mark."""
    (tmp_path / "a.csv").write_text(f"length{mark}maker\n1.5{mark}east\n2.5{mark}west\n{mark}a, b\n")
    assert read(tmp_path / "a.csv") == COLUMNS
    (tmp_path / "quoted.csv").write_text('"the length; in m",maker\n1.5,east;west\n')
    assert read(tmp_path / "quoted.csv") == {"the length; in m": [1.5], "maker": ["east;west"]}
    (tmp_path / "one.csv").write_text("length\n1.5\n")
    assert read(tmp_path / "one.csv") == {"length": [1.5]}


def test_a_wrong_number_of_cells_names_the_separator_that_was_found(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("length;maker\n1;east\n2\n")
    with pytest.raises(DataError, match=r"line 3 has 1 cells, the header has 2 \(cells separated by semicolons"):
        read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("length,maker\n1,east,x\n")
    with pytest.raises(DataError, match=r"line 2 has 3 cells, the header has 2$"):
        read(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", r"the file is UTF-16.*iconv -f UTF-16 -t UTF-8 a"),
        ("utf-32", r"the file is UTF-32"),
        ("latin-1", r"line 2 is not UTF-8.*it reads '.*größe.*'; if this is right: convert it with `iconv -f CP1252"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_another_encoding_is_named_with_the_command_that_converts_it(
    encoding: str, message: str, suffix: str, tmp_path: Path
) -> None:
    texts = {".json": '[{"length": 1},\n {"length": "größe"}]', ".jsonl": '{"length": 1}\n{"length": "größe"}\n'}
    path = tmp_path / f"a{suffix}"
    path.write_bytes(texts[suffix].encode(encoding))
    with pytest.raises(DataError, match=message) as error:
        read(path)
    assert error.value.file == str(path)


@pytest.mark.parametrize("form", ["a.json", "a.json.gz", "a.csv.gz", "a.tsv.gz", "a.jsonl.gz", "lines.json"])
def test_arrays_of_objects_and_compressed_files_are_read(form: str, tmp_path: Path) -> None:
    rows = [dict(zip(COLUMNS, cells, strict=True)) for cells in zip(*COLUMNS.values(), strict=True)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    text = {"json": json.dumps(rows, indent=1), "jsonl": lines, "csv": CSV, "tsv": CSV.replace(",", "\t", 1)}
    content = text[form.split(".")[1]]
    if form == "lines.json":
        content = lines
    elif form == "a.tsv.gz":
        content = "length\tmaker\n1.5\teast\n2.5\twest\n\ta, b\n"
    data = content.encode()
    (tmp_path / form).write_bytes(gzip.compress(data) if form.endswith(".gz") else data)
    assert read(tmp_path / form) == COLUMNS
    assert not list((tmp_path / "cache").glob("*.decompressed"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", b"length\n1\n", "damaged or not compressed by gzip"),
        ("b.csv.gz", gzip.compress(CSV.encode() * 99, mtime=0)[:-20], "damaged or not compressed by gzip"),
        ("c.csv.gz", gzip.compress(b"a,b\n1\n", mtime=0), "line 2 has 1 cells"),
        ("d.ods.gz", b"", "not a supported table format"),
        ("a.json", b'{"length": {"0": 1.5}}' * 2, "not JSON"),
        ("b.json", b'{\n"length": {"0": 1.5}}', r"one object \(with 'length'\).*orient='records'"),
        ("c.json", b'[{"a": 1}, 2]', "item 1 is not a JSON object"),
        ("d.json", b"3", "holds no array of objects"),
        ("e.json", b"[]", "no rows"),
        ("f.json", b"", "not JSON"),
        ("g.json", b"[" * 100_000, "not JSON"),
        ("h.json", b'[{"a": 1}, {"a": "\\ud800"}]', "item 1 has half a surrogate pair"),
        ("i.json", b'[{"a": ' + b"9" * 5000 + b"}]", "not JSON"),
    ],
)
def test_damaged_files_are_errors_that_name_them(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path / name)
    assert name in str(error.value)
