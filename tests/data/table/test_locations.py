"""Files that are no tables, addresses and folders of shards: what is read, and the next step for the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polymodal.core.errors import DataError
from polymodal.data.table.concat import open_data
from polymodal.data.table.table import Table


def read(source: Any, tmp_path: Path) -> Table:
    return open_data(source, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("a.xls", r"save it as \.xlsx or CSV, or read it with pandas\.read_excel\(\)"),
        ("a.ods", r"pandas\.read_excel\(\)"),
        ("a.accdb", "export the table as CSV"),
        ("a.tar.gz", "tar xf"),
        ("a.7z", r"unpack it and give the table in it; only \.zip"),
        ("a.csv.lz4", r"decompress it first; only \.gz"),
        ("a.pkl", "a pickle can run any code"),
        ("a.npy", "no column names"),
        ("a.txt", r"name it \.csv"),
        ("a.yaml", "the format of a recipe"),
        ("photo.png", r"give a row that names it, such as \{'image': 'photo.png'\}"),
        ("a", "no suffix.*rename it to one of .*csv"),
        ("a.weird", r"the suffix '\.weird' is not a supported table format \(.*\.csv"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_the_next_step(name: str, step: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=step) as error:
        read(tmp_path / name, tmp_path)
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("address", "step"),
    [
        ("https://example.org/a.csv", "`curl -LO https://example.org/a.csv`"),
        ("HTTP://example.org/a.csv", "curl"),
        ("hf://datasets/me/mine", "hf download"),
        ("hdfs://x/y.csv", "is an address of a kind that is not read .*: download the file first, and give"),
    ],
)
def test_an_address_is_not_taken_for_a_path(address: str, step: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=step):
        read(address, tmp_path)
    with pytest.raises(DataError, match="is an address"):
        read([address, address], tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "the path is empty"),
        ("a\0.csv", "holds a NUL character"),
        ("n" * 300 + ".csv", "is too long"),
        ("a/" * 3000 + "b.csv", "is too long"),
        ("\ud800.csv", "half a character"),
        ("nowhere/a.csv", "its folder does not exist either"),
        ("tabel.csv", "did you mean 'table.csv'"),
        ("zzzzzzzz.json", "there is no such file; its folder has no file with a similar name"),
        ("part-*.parquet", "no file has such a name"),
    ],
)
def test_a_path_without_a_file(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.csv").write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        read(path, tmp_path)
    assert len(str(error.value)) < 400


def shard(path: Path, first: int, **columns: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"number": [first, first + 1], **columns}), path)


def test_shards_of_one_schema_are_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    """As other libraries write them: numbered, with marks beside them, in a folder or behind a pattern."""
    folder = tmp_path / "shards"
    for number in (2, 0, 1):
        shard(folder / f"part-{number}.parquet", 2 * number)
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.parquet.crc").touch()
    (folder / "README.md").write_text("shards")
    for source in (folder, str(folder / "part-*.parquet"), folder / "part-[0-9].parquet"):
        table = read(source, tmp_path)
        assert table.values("number", np.arange(len(table))).to_pylist() == list(range(6))
        assert table.root == folder
        assert not table.data_sets
    assert len(read(str(folder / "*-2.parquet"), tmp_path)) == 2


def test_shards_of_several_schemas_are_refused(tmp_path: Path) -> None:
    shard(tmp_path / "names" / "a.parquet", 0)
    shard(tmp_path / "names" / "b.parquet", 0, other=[1, 2])
    with pytest.raises(DataError, match=r"'b.parquet' has other columns than 'a.parquet' \(other\)"):
        read(tmp_path / "names", tmp_path)
    shard(tmp_path / "types" / "a.parquet", 0)
    pq.write_table(pa.table({"number": ["1"]}), tmp_path / "types" / "b.parquet")
    with pytest.raises(DataError, match=r"column 'number', types: is int64 in 'a.parquet' and string in 'b.parquet'"):
        read(tmp_path / "types", tmp_path)
    (tmp_path / "names" / "c.csv").write_text("number\n1\n")
    with pytest.raises(DataError, match=r"several formats \(.csv, .parquet\)"):
        read(tmp_path / "names", tmp_path)


def test_several_files_without_types_are_not_joined(tmp_path: Path) -> None:
    """What a column of a CSV file is depends on all its rows."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("number\n1\n")
    with pytest.raises(DataError, match=r"2 files of the format .csv, which have no types.*or give a list of paths"):
        read(str(tmp_path / "*.csv"), tmp_path)
    assert len(read([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path)) == 2
    assert len(read(str(tmp_path / "a*.csv"), tmp_path)) == 1
