"""Tables from every source: cells are returned unchanged, and every bad input is a clear error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from PIL import Image

from data.table.cells import cells
from polymodal.core.errors import DataError, PolymodalError
from polymodal.core.paths import CacheWarning
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import open_table
from polymodal.recipe.data import LimitOptions
from small_disk import needs_limits, small_disk

CELLS = {
    "n": [3, 1, None, 2],
    "x": [0.5, None, 2.0, 1e3],
    "t": ["a", "ü,\n", None, "d"],
    "ok": [True, False, None, True],
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def write(name: str, folder: Path) -> Path | object:
    table, path = pa.table(CELLS), folder / name
    if name.endswith((".csv", ".tsv")):
        pd.DataFrame(table.to_pylist(), dtype=object).to_csv(path, index=False, sep="\t" if "tsv" in name else ",")
    elif name.endswith(".jsonl"):
        path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    elif name.endswith(".parquet"):
        pa.parquet.write_table(table, path, row_group_size=2, use_dictionary=True)
    elif name.endswith(".feather"):
        pa.feather.write_feather(table, str(path), compression="lz4")
    elif name == "stream.arrow":
        with pa.ipc.new_stream(str(path), table.schema) as sink:
            sink.write_table(table, max_chunksize=3)
    else:
        with pa.ipc.new_file(str(path), table.schema) as sink:
            sink.write_table(table, max_chunksize=3)
    return path


FILES = ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.feather", "file.arrow", "stream.arrow"]


@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_the_cells_that_went_in(name: str, tmp_path: Path, cache: Path) -> None:
    table = open_table(write(name, tmp_path), cache=cache)
    assert cells(table) == CELLS
    assert [str(table.column_type(c)) for c in table.columns] == ["int64", "double", "string", "bool"]
    assert table.root == tmp_path
    assert table.name == name
    assert cells(open_table(tmp_path / name, cache=cache)) == CELLS
    if name in ("file.arrow", "stream.arrow"):
        assert not cache.exists()


def test_sources_in_memory_give_the_same_cells_and_fingerprint(tmp_path: Path, cache: Path) -> None:
    table = pa.table(CELLS)
    sources = [
        table,
        pd.DataFrame(table.to_pylist(), dtype=object),
        table.to_pandas(types_mapper=pd.ArrowDtype),
        pl.from_arrow(table),
        CELLS,
        table.to_pylist(),
        table.set_column(2, "t", table["t"].dictionary_encode()),
    ]
    opened = [open_table(source, cache=cache) for source in sources]
    assert all(cells(one) == CELLS and one.root is None for one in opened)
    prints = {one.fingerprint() for one in opened}
    assert prints == {open_table(write("a.parquet", tmp_path), cache=cache).fingerprint()}
    changed = CELLS | {"t": ["a", "ü,\n", None, "e"]}
    assert open_table(changed, cache=cache).fingerprint() not in prints


def test_pandas_types_that_hold_gaps(cache: Path) -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan], "c": pd.Categorical(["a", None]), "i": pd.array([1, None], "Int64")})
    assert cells(open_table(frame, cache=cache)) == {"x": [1.0, None], "c": ["a", None], "i": [1, None]}


def test_objects_are_kept_as_they_are(cache: Path) -> None:
    image, array = Image.new("RGB", (2, 2)), np.zeros((2, 2, 3), np.uint8)
    for source in ({"image": [image, array, None]}, pd.DataFrame({"image": pd.Series([image, array, None])})):
        table = open_table(source, cache=cache)
        assert table.column_type("image") is None
        one, other, gap = cells(table)["image"]
        assert one is image
        assert other is array
        assert gap is None
    assert len(open_table({"image": np.zeros((5, 4, 4, 3))}, cache=cache)) == 5
    assert cells(open_table({"p": [Path("a/b.png"), None]}, cache=cache)) == {"p": ["a/b.png", None]}


def test_rows_come_in_the_order_asked_for(tmp_path: Path, cache: Path) -> None:
    source = pa.table({"n": pa.chunked_array([range(0, 7), range(7, 7), range(7, 20)])})
    table = open_table(source, cache=cache)
    rows = np.array([19, 0, 7, 6, 6, 3])
    assert table.values("n", rows).to_pylist() == rows.tolist()
    assert table.values("n", rows[:0]).to_pylist() == []
    blocks = list(table.blocks(rows, ["n"], size=4, errors=CellErrors(), limits=LimitOptions()))
    assert [block.cells("n") for block in blocks] == [[19, 0, 7, 6], [6, 3]]
    with pytest.raises(IndexError):
        table.values("n", np.array([-1]))


def test_sample_is_spread_over_the_table(cache: Path) -> None:
    table = open_table({"n": [None if i % 2 else i for i in range(10_000)]}, cache=cache)
    sample = table.sample("n", limit=500, seed=1)
    assert (sample.rows, sample.sampled) == (10_000, 500)
    assert len(sample.values) + sample.nulls == 500
    assert 150 < sample.nulls < 350
    assert np.histogram(sample.values, bins=10, range=(0, 10_000))[0].min() > 10
    assert table.sample("n", limit=500, seed=1).values == sample.values


def test_blocks_of_large_rows_are_shorter(tmp_path: Path, cache: Path) -> None:
    rows, megabyte = 150, bytes(1 << 20)
    pa.parquet.write_table(pa.table({"image": [megabyte] * rows, "n": range(rows)}), tmp_path / "a.parquet")
    table = open_table(tmp_path / "a.parquet", cache=cache)
    every, options = np.arange(rows), {"errors": CellErrors(), "limits": LimitOptions()}
    assert [len(block) for block in table.blocks(every, ["image", "n"], **options)] == [64, 64, 22]
    assert [len(block) for block in table.blocks(every, ["n"], **options)] == [150]


# everything else that can be wrong


def test_missing_file_names_the_nearest(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "train.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"did you mean 'train\.csv'"):
        open_table(tmp_path / "trian.csv", cache=cache)
    with pytest.raises(DataError, match="folder does not exist"):
        open_table(tmp_path / "no" / "train.csv", cache=cache)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
def test_damaged_files(name: str, tmp_path: Path, cache: Path) -> None:
    path = write(name, tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=name):
        open_table(path, cache=cache)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=name):
        open_table(path, cache=cache)


@pytest.mark.parametrize("damage", ["one bit", "short", "empty", "zeros", "removed"])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_damaged_cache_entry_is_converted_again(name: str, damage: str, tmp_path: Path, cache: Path) -> None:
    path = write(name, tmp_path)
    open_table(path, cache=cache)
    (entry,) = cache.iterdir()
    content = entry.read_bytes()
    middle = len(content) // 2
    damaged = {
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "short": content[:-100],
        "empty": b"",
        "zeros": bytes(len(content)),
    }
    entry.unlink()
    if damage in damaged:
        entry.write_bytes(damaged[damage])
        with pytest.warns(CacheWarning, match=f"{entry.name} in the cache is damaged"):
            assert cells(open_table(path, cache=cache)) == CELLS
    assert cells(open_table(path, cache=cache)) == CELLS
    assert [one.name for one in cache.iterdir()] == [entry.name]


def test_a_cache_that_cannot_be_written_is_named_and_not_the_table(tmp_path: Path) -> None:
    path = write("a.csv", tmp_path)
    (tmp_path / "cache").write_text("")
    with pytest.raises(PolymodalError, match="POLYMODAL_CACHE") as caught:
        open_table(path, cache=tmp_path / "cache" / "tables")
    assert not isinstance(caught.value, DataError)
    assert "a.csv" not in str(caught.value)


@needs_limits
def test_a_full_disk_names_the_cache_and_not_the_table(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 100_000)
    with small_disk(100_000), pytest.raises(PolymodalError, match="POLYMODAL_CACHE") as caught:
        open_table(tmp_path / "t.csv", cache=cache)
    assert "t.csv" not in str(caught.value)
    assert not list(cache.iterdir())


BAD_SOURCES = {
    "suffix": (lambda folder: folder / "t.xlsx", "xlsx"),
    "number": (lambda folder: 3, "not int"),
    "no rows": (lambda folder: {"a": []}, "no rows"),
    "no columns": (lambda folder: {}, "no rows"),
    "lengths": (lambda folder: {"a": [1], "b": [1, 2]}, "differ in length"),
    "kinds": (lambda folder: {"a": [1, b"x"]}, "bytes, int"),
    "row": (lambda folder: [{"a": 1}, 3], "row 1"),
    "cells": (lambda folder: {"a": "text"}, "column 'a'"),
    "pandas twice": (lambda folder: pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'"),
    "arrow twice": (lambda folder: pa.table([[1], [2]], names=["a", "a"]), "'a'"),
    "empty frame": (lambda folder: pl.DataFrame({"a": []}), "no rows"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_sources(case: str, tmp_path: Path, cache: Path) -> None:
    make, message = BAD_SOURCES[case]
    (tmp_path / "t.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=message):
        open_table(make(tmp_path), cache=cache)


def test_unknown_column_names_the_nearest(cache: Path) -> None:
    table = open_table({"question": ["a"]}, cache=cache)
    for call in (table.column_type, table.sample, lambda name: table.values(name, np.array([0]))):
        with pytest.raises(DataError, match="did you mean 'question'"):
            call("qestion")


def test_a_changed_file_is_converted_again(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    open_table(path, cache=cache)
    path.write_text("a\n2\n")
    assert cells(open_table(path, cache=cache)) == {"a": [2]}


# media folders


def media(folder: Path, *names: str) -> Path:
    """Files of these names; what is in them does not matter before they are decoded."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("image", ["cat/a.png", "dog/a.JPG", "dog/b.webp"]),
        ("audio", ["cat/a.wav", "dog/a.FLAC", "dog/b.opus"]),
        ("video", ["cat/a.mp4", "dog/a.WebM", "dog/b.ogv"]),
    ],
)
def test_media_folder(kind: str, names: list[str], tmp_path: Path, cache: Path) -> None:
    folder = media(tmp_path / "pets", *reversed(names))
    (folder / ".hidden").write_text("")
    (folder / "README.md").write_text("")
    table = open_table(folder, cache=cache)
    assert cells(table) == {kind: names, "label": ["cat", "dog", "dog"]}
    assert table.root == folder


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png"], "not in a class folder"),
        (["a.wav", "dog/b.png"], "outside the class folders"),
        (["dog/small/a.png"], "too deep"),
        ([], "no images, audio or videos"),
        (["dog/a.png", "dog/b.psd"], r"dog/b\.psd"),
        (["cat/a.png", "dog/a.wav"], r"several kinds of media: image \('cat/a\.png'\), audio \('dog/a\.wav'\)"),
    ],
)
def test_bad_media_folders(names: list[str], message: str, tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    with pytest.raises(DataError, match=message):
        open_table(media(folder, *names), cache=cache)


# memory

_MEASURE = """
import sys
from pathlib import Path
import numpy as np
from polymodal.data.table.table import open_table
from polymodal.data.table.cell_errors import CellErrors
from polymodal.recipe.data import LimitOptions

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

small, large, cache = map(Path, sys.argv[1:])
def use(path):
    table = open_table(path, cache=cache)
    for block in table.blocks(np.arange(len(table)), table.columns, errors=CellErrors(), limits=LimitOptions()):
        pass
    table.sample("t")
    return table
kept = use(small)
before = anonymous()
kept_too = use(large)
print(anonymous() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_file(suffix: str, tmp_path: Path) -> None:
    """Ten times the rows (160 MB of text instead of 16) may not cost 80 MB (what allocators keep)."""
    paths = []
    for name, count in (("small", 16), ("large", 160)):
        path = tmp_path / f"{name}.{suffix}"
        text = pa.array([f"{i:06d}" * 33 for i in range(5000)])
        part = pa.table({"n": np.arange(5000), "t": text})
        if suffix == "csv":
            chunk = "".join(f"{i},{word}x\n" for i, word in enumerate(text.to_pylist()))
            with open(path, "w") as file:
                file.write("n,t\n")
                for _ in range(count):
                    file.write(chunk)
        else:
            with pa.parquet.ParquetWriter(path, part.schema, compression="none", use_dictionary=False) as writer:
                for _ in range(count):
                    writer.write_table(part)
        paths.append(str(path))
    command = [sys.executable, "-c", _MEASURE, *paths, str(tmp_path / "cache")]
    grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 80
