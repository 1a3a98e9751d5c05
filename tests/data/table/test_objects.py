"""Tables and media in object stores: the same rows, fingerprints and predictions as from a file of this machine."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import polymodal
from object_store import upload
from polymodal.core.errors import DataError
from polymodal.data.media.source import MediaError, MissingFileError, read_bytes
from polymodal.data.objects import ObjectPath, as_root
from polymodal.data.table import row_groups
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.concat import open_data
from polymodal.data.table.row_groups import RowGroupTable
from polymodal.data.table.table import Table, open_table
from polymodal.recipe.data import LimitOptions

LIMITS = LimitOptions()


def columns(count: int) -> dict[str, Any]:
    draw = np.random.default_rng(7)
    return {
        "length": [None if row % 11 == 3 else float(value) for row, value in enumerate(draw.normal(size=count))],
        "maker": [("north", "south", None)[row % 3] for row in range(count)],
        "tags": [[row, row + 1] for row in range(count)],
        "grade": [("low", "high")[value] for value in draw.integers(0, 2, count)],
        "a.b": list(range(count)),
    }


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 255 - value, 0)).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three Parquet files of 40, 40 and 20 rows, in row groups of 16."""
    folder = tmp_path_factory.mktemp("shards")
    whole = pa.table(columns(100))
    for number, start in enumerate((0, 40, 80)):
        pq.write_table(whole.slice(start, 40), folder / f"part-{number}.parquet", row_group_size=16)
    return folder


@pytest.fixture(params=["file", "s3"])
def address(request: pytest.FixtureRequest, shards: Path) -> str:
    """The address of the folder of shards, of this machine and of an S3 server."""
    if request.param == "file":
        return f"file://{shards}"
    return upload(shards, f"{request.getfixturevalue('s3')}/shards")


def test_rows_and_fingerprint_are_those_of_the_path(address: str, shards: Path, tmp_path: Path) -> None:
    local, stored = (open_table(one, cache=tmp_path) for one in (shards, f"{address}/part-*.parquet"))
    assert isinstance(stored, RowGroupTable)
    assert (stored.columns, len(stored)) == (local.columns, 100)
    assert stored.fingerprint() == local.fingerprint()
    draw = np.random.default_rng(3)
    for rows in (np.arange(100), np.arange(100)[::-1], draw.integers(0, 100, 50), np.array([], np.int64)):
        for column in local.columns:
            assert stored.values(column, rows).to_pylist() == local.values(column, rows).to_pylist()
            assert stored.column_type(column) == local.column_type(column)
    for column in local.columns:
        assert stored.sample(column).values == local.sample(column).values
    kinds: Any = {"length": "text", "grade": "number"}
    one, other = (table.read_with(kinds).values("length", np.arange(100)) for table in (local, stored))
    assert one.to_pylist() == other.to_pylist()


def test_a_model_predicts_the_same(address: str, shards: Path, tmp_path: Path) -> None:
    settings = [
        "training.epochs=1",
        "hidden_size=8",
        "data.ignore_columns=[tags, a.b]",
        "evaluation.bootstrap_samples=0",
    ]
    model = polymodal.fit(address, "grade", settings=settings)
    again = polymodal.fit(shards, "grade", settings=settings)
    expected = model.predict_proba(shards)
    assert np.array_equal(expected, model.predict_proba(address))
    assert np.array_equal(expected, again.predict_proba(address))


def test_no_copy_is_made(address: str, tmp_path: Path) -> None:
    table = open_table(address, cache=tmp_path)
    table.values("grade", np.arange(100))
    assert list(tmp_path.iterdir()) == []


def test_a_changed_object_is_another_table(s3: str, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    keys = set()
    for value in (1.0, 2.0, 2.0):
        pq.write_table(pa.table({"x": [value] * 3}), tmp_path / "new" / "a.parquet")
        keys.add(open_table(upload(tmp_path / "new", f"{s3}/changed"), cache=tmp_path).source_key())
    assert len(keys) == 2  # the same content has the same key, also when it is written again


def test_memory_does_not_grow_with_rows_or_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D8: reading ten times the rows, in row groups ten times as large, allocates no more."""
    monkeypatch.setattr(row_groups, "BATCH_BYTES", 1 << 20)
    held = {}
    for times in (1, 10):
        file = tmp_path / f"{times}.parquet"
        draw = np.random.default_rng(0)
        schema = pa.schema([("image", pa.binary()), ("row", pa.int64())])
        with pq.ParquetWriter(file, schema, use_dictionary=False, write_batch_size=16) as writer:
            data = [draw.bytes(20_000) for _ in range(200)]
            numbers = range(200 * times)
            writer.write_table(pa.table({"image": data * times, "row": numbers}, schema), row_group_size=10**6)
        del data
        table = open_table(f"file://{file}", cache=tmp_path)
        before, highest, seen = pa.total_allocated_bytes(), 0, 0
        for block in table.blocks(np.arange(len(table)), ["image", "row"], 50, errors=CellErrors(), limits=LIMITS):
            highest = max(highest, pa.total_allocated_bytes() - before)
            assert block.cells("row") == list(range(seen, seen + len(block)))
            seen += len(block)
        assert seen == 200 * times
        held[times] = highest
    assert held[10] < 1.5 * held[1] < 12 << 20, held


def test_a_large_row_group_is_sampled_at_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "BATCH_BYTES", 256)
    pq.write_table(pa.table({"row": range(1000)}), tmp_path / "a.parquet", row_group_size=500)
    sample = open_table(f"file://{tmp_path}/a.parquet", cache=tmp_path).sample("row")
    assert set(sample.values) < {*range(100), *range(500, 600)}
    assert (min(sample.values), max(sample.values) >= 500) == (0, True)


def test_shards_begin_at_row_groups(shards: Path, tmp_path: Path) -> None:
    table = open_table(f"file://{shards}", cache=tmp_path)
    assert table.shard_bounds(40) == [0, 40, 80, 100]
    assert table.shard_bounds(33) == [0, 32, 56, 80, 100]
    assert table.shard_bounds(10) == [0, 10, 16, 26, 32, 40, 50, 56, 66, 72, 80, 90, 100]
    assert open_table(shards, cache=tmp_path).shard_bounds(33) == [0, 33, 66, 99, 100]


@pytest.mark.parametrize("wrong", ["other columns", "other type", "damaged"])
def test_shards_that_do_not_match_are_refused(wrong: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    if wrong == "damaged":
        (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing")
    else:
        pq.write_table(pa.table({"y": [1]} if wrong == "other columns" else {"x": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match={"other type": "is int64 in 'a.parquet' and string"}.get(wrong, wrong)):
        open_table(f"file://{tmp_path}", cache=tmp_path / "cache")


def test_a_csv_file_is_copied_once(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("x,y\n1,a\n2,b\n")
    address = upload(tmp_path / "csv", f"{s3}/csv")
    for _ in range(2):
        table = open_table(f"{address}/a.csv", cache=tmp_path / "cache")
        assert table.values("x", np.arange(2)).to_pylist() == [1, 2]
        monkeypatch.setattr(ObjectPath, "open", None)  # the second time the copy is read
    assert str(table.root) == address
    assert table.fingerprint() == open_table(tmp_path / "csv" / "a.csv", cache=tmp_path / "cache").fingerprint()


def test_media_are_read_below_a_root_in_the_store(s3: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "photos").mkdir(parents=True)
    for value in range(24):
        (tmp_path / "data" / "photos" / f"{value}.png").write_bytes(png(10 * value))
    rows = {"image": [f"photos/{n}.png" for n in range(24)], "kind": ["dark" if n < 12 else "light" for n in range(24)]}
    pq.write_table(pa.table(rows), tmp_path / "data" / "rows.parquet")
    address = upload(tmp_path / "data", f"{s3}/data")
    settings = ["training.epochs=1", "hidden_size=8", "evaluation.bootstrap_samples=0"]
    model = polymodal.fit(f"{address}/rows.parquet", "kind", settings=settings)
    assert model.run.cell_errors.count == 0
    local = model.predict_proba(tmp_path / "data" / "rows.parquet")
    assert np.array_equal(local, model.predict_proba(f"{address}/rows.parquet"))
    full = {"image": [f"{address}/photos/{n}.png" for n in range(24)]}
    assert np.array_equal(local, model.predict_proba(full, root=address))


@pytest.mark.parametrize("cell", ["../other/a.png", "/a.png", "s3://tables/other/a.png", "s3://tables/media/../a.png"])
def test_a_cell_that_leaves_the_root_is_refused(cell: str) -> None:
    with pytest.raises(MediaError, match="leaves the root folder s3://tables/media"):
        read_bytes(cell, as_root("s3://tables/media"), LIMITS)


def test_other_cells_that_cannot_be_read(s3: str, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "a.bin").write_bytes(b"x" * 2**20)
    root = as_root(upload(tmp_path / "big", f"{s3}/big"))
    assert read_bytes("a.bin", root, LIMITS)[0] == b"x" * 2**20
    with pytest.raises(MissingFileError):
        read_bytes("b.bin", root, LIMITS)
    with pytest.raises(MediaError, match="over the limit"):
        read_bytes("a.bin", root, LimitOptions(megabytes=0.5))
    with pytest.raises(MediaError, match="of an object store, pass the folder as `root`"):
        read_bytes(f"{s3}/big/a.bin", tmp_path, LIMITS)


def write_tar(path: Path, first: int, count: int) -> None:
    with tarfile.open(path, "w") as archive:
        for number in range(first, first + count):
            described = {"caption": f"number {number}", "size": number}
            files = {
                "png": png(number),
                "txt": b"n",
                "cls": b"%d" % (number % 2),
                "json": json.dumps(described).encode(),
            }
            for ending, data in files.items() if number % 5 else [("png", files["png"])]:
                member = tarfile.TarInfo(f"{number:04}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("store", ["path", "s3"])
def test_tar_files_of_samples_are_a_table(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    for number in range(2):
        write_tar(folder / f"shard-{number}.tar", 10 * number, 10)
    source = folder if store == "path" else upload(folder, f"{request.getfixturevalue('s3')}/tars")
    table = open_table(f"{source}/shard-*.tar", cache=tmp_path / "cache")
    assert table.columns == ["key", "txt", "cls", "json.caption", "json.size", "png"]
    assert table.values("key", np.array([0, 19])).to_pylist() == ["0000", "0019"]
    assert table.values("cls", np.array([0, 1, 12])).to_pylist() == [None, 1, 0]
    assert table.values("json.caption", np.array([11])).to_pylist() == ["number 11"]
    assert table.values("png", np.array([13, 2])).to_pylist() == [png(13), png(2)]
    assert table.column_type("png") == pa.binary()
    rows: Table = open_table({name: table.values(name, np.arange(20)) for name in table.columns}, cache=tmp_path)
    assert table.fingerprint() == rows.fingerprint()


def test_damaged_tar_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="not a tar file"):
        open_table(tmp_path / "a.tar", cache=tmp_path)
    write_tar(tmp_path / "b.tar", 1, 3)
    with tarfile.open(tmp_path / "b.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("0003.cls"), io.BytesIO(b""))
    with pytest.raises(DataError, match=r"'0003.cls' cannot be read as cls"):
        open_table(tmp_path / "b.tar", cache=tmp_path)


def test_errors_of_stores_name_the_address(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    for address, message in {
        f"{s3}/nowhere/a.parquet": "s3://tables/nowhere/a.parquet: there is nothing at this address",
        f"{s3}/nowhere-*.parquet": "there are no files at this address",
        "az://container/a.parquet": "set AZURE_STORAGE_ACCOUNT_NAME",
        "gs://bucket/a.parquet?retry_limit_seconds=1": "the object store cannot be read.*credentials",
        f"file://{tmp_path}/a.parquet": "there is nothing at this address",
    }.items():
        with pytest.raises(DataError, match=message):
            open_data([address, address], cache=tmp_path)
