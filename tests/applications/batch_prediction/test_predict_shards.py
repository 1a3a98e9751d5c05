"""Batch predictions: every row once and in order, the same bytes whoever computes them, and only what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import polymodal
from command_line import run_command
from object_store import upload
from polymodal.applications.batch_prediction.predict_shards import predict_shards
from polymodal.core.errors import DataError, OutputError, RecipeError

ROWS = 200


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a table of 200 rows, of which 10 have a cell that cannot be used."""
    folder = tmp_path_factory.mktemp("place")
    draw = np.random.default_rng(0)
    length = draw.normal(size=ROWS)
    rows = {"length": length, "maker": draw.choice(["north", "south"], ROWS)}
    kind = np.where(length > 0, "long", "short")
    settings = ["training.epochs=1", "hidden_size=8", "evaluation.bootstrap_samples=0", "training.num_threads=1"]
    polymodal.fit({**rows, "kind": kind}, "kind", settings=settings, out=folder / "model")
    polymodal.fit({**rows, "kind": kind}, "kind", settings=[*settings, "seed=1"], out=folder / "other")
    texts = [f"{value:.6f}" if row % 20 else f"about {value:.1f}" for row, value in enumerate(length)]
    table = pa.table({"length": texts, "maker": rows["maker"]})
    pq.write_table(table, folder / "new.parquet", row_group_size=32)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, bytes]:
    """The files of one run in a loop."""
    address = f"file://{place}/new.parquet"
    done = predict_shards(place / "model", address, place / "whole", shard_rows=40, probabilities=True)
    assert (done.shards, done.computed, done.complete, done.rows, done.cell_errors) == (6, 6, True, ROWS, 10)
    return contents(place / "whole")


def test_every_row_is_predicted_once_in_order(place: Path, whole: dict[str, bytes]) -> None:
    found = ds.dataset(place / "whole", format="parquet", exclude_invalid_files=True).to_table()
    model = polymodal.load(place / "model")
    with pytest.warns(UserWarning, match="could not be used"):
        expected = model.predict_proba(place / "new.parquet")
    assert found["kind"].to_pylist() == [model.classes[best] for best in expected.argmax(1)]
    assert np.allclose(found["kind.long"], expected[:, 0], atol=1e-6)
    manifest = json.loads(whole["shards.json"])
    assert manifest["columns"] == found.column_names
    assert [shard["start"] for shard in manifest["shards"]] == [0, 32, 64, 96, 128, 160]
    assert sum(shard["rows"] for shard in manifest["shards"]) == manifest["rows"] == ROWS


def test_cell_errors_are_listed_once_with_the_rows_of_the_table(whole: dict[str, bytes]) -> None:
    errors = [json.loads(line) for line in whole["cell_errors.jsonl"].decode().splitlines()]
    assert [error["row"] for error in errors] == list(range(0, ROWS, 20))
    assert {error["column"] for error in errors} == {"length"}


def test_only_what_is_missing_is_computed(place: Path, whole: dict[str, bytes]) -> None:
    address = f"file://{place}/new.parquet"
    lost = [name for name in whole if name.startswith("part-")][2:4]
    for name in lost:
        (place / "whole" / name).unlink()
    done = predict_shards(place / "model", address, place / "whole", shard_rows=40, probabilities=True)
    assert (done.computed, done.complete) == (2, True)
    assert contents(place / "whole") == whole


def test_the_jobs_of_an_array_write_the_same_files(place: Path, whole: dict[str, bytes]) -> None:
    for index, complete in enumerate((False, False, True)):
        arguments = [f"file://{place}/new.parquet", "--out", str(place / "array"), "--shard-rows", "40", "--json"]
        done = run_command(
            "predict", str(place / "model"), *arguments, "--shards", f"{index}/3", "--probabilities", "--overwrite"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["complete"] is complete
    assert contents(place / "array") == whole


def test_a_killed_run_is_continued(place: Path, whole: dict[str, bytes]) -> None:
    """D7: the process is killed after its first shard, with a second process beside it."""
    out = place / "killed"
    arguments = ["predict", str(place / "model"), f"file://{place}/new.parquet", "--out", str(out)]
    command = [sys.executable, "-m", "polymodal", *arguments, "--shard-rows", "40", "--workers", "2", "--probabilities"]
    running = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while running.poll() is None and not list(out.glob("part-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    left = len(list(out.glob("part-*")))
    assert left
    options: dict[str, Any] = {"shard_rows": 40, "probabilities": True}
    done = predict_shards(place / "model", f"file://{place}/new.parquet", out, **options)
    assert done.computed == 6 - left
    assert contents(out) == whole


def test_an_object_store_has_the_same_predictions(place: Path, whole: dict[str, bytes], s3: str) -> None:
    (place / "upload").mkdir()
    (place / "upload" / "new.parquet").write_bytes((place / "new.parquet").read_bytes())
    data, out = upload(place / "upload", f"{s3}/predict"), f"{s3}/answers"
    for computed in (6, 0):
        done = predict_shards(place / "model", f"{data}/new.parquet", out, shard_rows=40, probabilities=True)
        assert (done.computed, done.complete, done.out) == (computed, True, out)
    table = polymodal.load(place / "model").open_columns(f"{out}/part-*.parquet", None, [])
    expected = ds.dataset(place / "whole", format="parquet", exclude_invalid_files=True).to_table()
    for column in table.columns:
        assert table.values(column, np.arange(ROWS)).to_pylist() == expected[column].to_pylist()


def test_shards_of_something_else_are_kept(place: Path, whole: dict[str, bytes]) -> None:
    out = place / "kept"
    predict_shards(place / "model", place / "new.parquet", out, shard_rows=100)
    before = contents(out)
    for model, rows in (("other", 100), ("model", 50)):
        with pytest.raises(OutputError, match="shards of another model, table or number of rows"):
            predict_shards(place / model, place / "new.parquet", out, shard_rows=rows)
    assert contents(out) == before
    done = predict_shards(place / "other", place / "new.parquet", out, shard_rows=100, overwrite=True)
    assert (done.computed, len(contents(out))) == (2, 4)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"files that are no shards of predictions \(mine.txt\)"):
        predict_shards(place / "other", place / "new.parquet", out, shard_rows=100, overwrite=True)


def test_errors(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 0, column 'length'"):
        predict_shards(place / "model", place / "new.parquet", tmp_path / "strict", strict=True)
    with pytest.raises(RecipeError, match="must be at least 1, not 0"):
        predict_shards(place / "model", place / "new.parquet", tmp_path / "none", shard_rows=0)
    for arguments, message in {
        ("--shards", "0/2"): "give --out",
        ("--engine", "rai", "--out", "x"): "unknown engine",
        ("--shards", "2/2", "--out", "x"): "from 0/4 to 3/4",
        ("--out", "s3://bucket/a.csv"): "only shards are written to an address",
        ("--workers", "2", "--escape-formulas", "--out", "x"): "Parquet files, without formulas",
    }.items():
        done = run_command("predict", str(place / "model"), str(place / "new.parquet"), *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert message in " ".join(done.stderr.replace("│", " ").split()), done.stderr
