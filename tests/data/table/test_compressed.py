"""Compressed tables and archives, written by the programs and libraries that people use."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from data.table.cells import cells
from polymodal.core.errors import DataError
from polymodal.data.table.table import Table, open_table

ROWS = pd.DataFrame({"name": ["a", "b", None], "n": [1, 2, 3], "x": [0.5, None, 1.5]})


def read(source: object, tmp_path: Path) -> Table:
    return open_table(source, cache=tmp_path / "cache")


def write_csv(path: Path) -> None:
    """By pandas; Zstandard, for which pandas needs a package, by pyarrow."""
    if path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as sink:
            sink.write(ROWS.to_csv(index=False).encode())
    else:
        ROWS.to_csv(path, index=False)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst", "zip"])
def test_a_compressed_table_has_the_rows_of_parquet(suffix: str, tmp_path: Path) -> None:
    ROWS.to_parquet(tmp_path / "t.parquet")
    path = tmp_path / f"t.csv.{suffix}"
    write_csv(path)
    assert cells(read(path, tmp_path)) == cells(read(tmp_path / "t.parquet", tmp_path))
    assert all(one.suffix == ".arrow" for one in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst", "zip"])
def test_damaged_files_are_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.csv.{suffix}"
    write_csv(path)
    whole = path.read_bytes()
    for data in (b"a,b\n1,2\n", whole[: len(whole) - 6]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"the file is damaged or not compressed by .*\(.*{path.name}|{path.name}"):
            read(path, tmp_path)


def test_one_table_of_an_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("in/train.csv", "n;x\n1;2\n")
        archive.writestr("in/test.jsonl", '{"n": 3}\n')
        archive.writestr("__MACOSX/in/._train.csv", "no table")
        archive.writestr("notes.txt", "none")
    with pytest.raises(DataError, match=r"2 tables \('in/train.csv', 'in/test.jsonl'\): .* data.zip#in/train.csv"):
        read(path, tmp_path)
    assert cells(read(f"{path}#in/test.jsonl", tmp_path)) == {"n": [3]}
    assert cells(read(f"{path}#in/train.csv&separator=;", tmp_path)) == {"n": [1], "x": [2]}
    with pytest.raises(DataError, match=r"has no table 'train.csv'; did you mean 'in/train.csv'"):
        read(f"{path}#train.csv", tmp_path)


def test_an_archive_of_media_is_to_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("table.csv", "photo\n1.png\n")
        archive.writestr("1.png", b"")
    with pytest.raises(DataError, match=r"holds media beside 'table.csv': unpack it with `unzip`"):
        read(path, tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "none")
    with pytest.raises(DataError, match="holds no table"):
        read(path, tmp_path)
