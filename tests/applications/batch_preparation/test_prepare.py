"""Preparation in shards: the same bytes whoever prepares them, only what is missing, and training equal to `fit`."""

from __future__ import annotations

import io
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
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import polymodal
from laws.checkpoints import checkpoint
from object_store import upload
from polymodal.applications.batch_preparation.prepare import prepare
from polymodal.core.errors import DataError, OutputError, RecipeError
from polymodal.data.media.workers import pool
from polymodal.data.shard_folder import ShardFolder
from polymodal.model.model import Model
from polymodal.preparation.prepared_shard import PreparedShard
from polymodal.preparation.prepared_store import PreparedStore

ROWS = 160
OPTIONS: dict[str, Any] = {"shard_rows": 50, "group_rows": 16}
#: A small network with trained encoders. The color of the image decides the class, with the sign of the number.
RECIPE: dict[str, Any] = {
    "hidden_size": 16,
    "inputs": {
        "picture": {
            "columns": ["picture"],
            "modality": {"name": "image", "image_size": 32},
            "encoder": {"name": "resnet"},
        },
        "words": {"columns": ["words"], "modality": "text", "encoder": "embedding_bag"},
        "length": {"columns": ["length"], "modality": "number"},
    },
    "outputs": {"kind": {"columns": ["kind"], "task": "classification"}},
    "training": {"epochs": 2, "batch_size": 16, "precision": "fp32", "num_threads": 1},
    "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
}


def png(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of 160 rows: 40 images that rows share, 8 numbers and one image that cannot be used."""
    folder = tmp_path_factory.mktemp("place")
    draw = np.random.default_rng(0)
    colors = [tuple(int(one) for one in draw.integers(0, 255, 3)) for _ in range(40)]
    pictures, length = [colors[row % 40] for row in range(ROWS)], draw.normal(size=ROWS)
    kind = ["a" if (picture[0] > 127) ^ (one > 0) else "b" for picture, one in zip(pictures, length, strict=True)]
    cells = [png(picture) for picture in pictures]
    cells[7] = b"no image"
    table = {
        "picture": pa.array(cells, pa.binary()),
        "words": [" ".join(draw.choice(["red", "blue", "green", "big"], 3)) for _ in range(ROWS)],
        "length": [f"about {one:.1f}" if row % 20 == 3 else f"{one:.6f}" for row, one in enumerate(length)],
        "kind": kind,
    }
    pq.write_table(pa.table(table), folder / "train.parquet", row_group_size=32)
    return folder


@pytest.fixture(scope="module")
def store(place: Path) -> Path:
    """The store that one call prepares in a loop."""
    done = prepare(place / "train.parquet", out=place / "store", recipe=RECIPE, **OPTIONS)
    assert (done.shards, done.computed, done.complete, done.rows, done.cell_errors) == (4, 4, True, ROWS, 9)
    return place / "store"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def same_weights(one: Model, other: Model) -> bool:
    state, weights = one.network.state_dict(), other.network.state_dict()
    return state.keys() == weights.keys() and all(torch.equal(state[name], weights[name]) for name in state)


def test_the_manifest_lists_rows_bytes_cells_and_hashes(store: Path) -> None:
    manifest = json.loads((store / "shards.json").read_text())
    shards = manifest["shards"]
    assert [shard["start"] for shard in shards] == [0, 50, 100, 150]
    assert sum(shard["rows"] for shard in shards) == manifest["rows"] == ROWS
    assert [shard["bytes"] for shard in shards] == [(store / shard["name"]).stat().st_size for shard in shards]
    assert len({shard["hash"] for shard in shards}) == len(shards)
    errors = [json.loads(line) for line in (store / "cell_errors.jsonl").read_text().splitlines()]
    assert sum(shard["cell_errors"] for shard in shards) == manifest["cell_errors"] == len(errors) == 9
    assert sorted(error["row"] for error in errors) == sorted([7, *range(3, ROWS, 20)])


def test_only_what_is_missing_is_prepared(place: Path, store: Path) -> None:
    before = contents(store)
    for lost in ([], sorted(name for name in before if name.startswith("part-"))[1:3], ["shards.json"]):
        for name in lost:
            (store / name).unlink()
        done = prepare(place / "train.parquet", out=store, recipe=RECIPE, **OPTIONS)
        assert done.computed == sum(name.startswith("part-") for name in lost)
        assert contents(store) == before


def test_the_jobs_of_an_array_write_the_same_files(place: Path, store: Path) -> None:
    for index, complete in enumerate((False, False, True)):
        options = {**OPTIONS, "shards": f"{index}/3"}
        assert prepare(place / "train.parquet", out=place / "array", recipe=RECIPE, **options).complete is complete
    assert contents(place / "array") == contents(store)


def test_a_run_that_is_killed_in_a_shard_is_continued(place: Path, store: Path, tmp_path: Path) -> None:
    """D7: the process is killed while the file of a shard is open; the same bytes come out."""
    recipe, out = tmp_path / "recipe.json", tmp_path / "store"
    recipe.write_text(json.dumps(RECIPE))
    words = ["prepare", str(place / "train.parquet"), "--recipe", str(recipe), "--out", str(out)]
    words += [word for name, value in OPTIONS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    running = subprocess.Popen(
        [sys.executable, "-m", "polymodal", *words],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if list(out.glob(".part-*.part")):
            os.killpg(running.pid, signal.SIGSTOP)
            os.waitpid(running.pid, os.WUNTRACED)
            if list(out.glob(".part-*.part")):  # it stands still now
                break
            os.killpg(running.pid, signal.SIGCONT)
        time.sleep(0.001)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert list(out.glob(".part-*.part"))
    left = len(list(out.glob("part-*")))
    assert left < 4
    assert prepare(place / "train.parquet", out=out, recipe=RECIPE, **OPTIONS).computed == 4 - left
    assert contents(out) == contents(store)


@pytest.fixture(scope="module")
def fitted(place: Path) -> Model:
    """The model that is trained from the table."""
    return polymodal.fit(place / "train.parquet", recipe=RECIPE)


@pytest.fixture
def decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a cell is decoded")

    monkeypatch.setattr(pool, "decoding_pool", fail)


def test_training_from_the_store_is_training_from_the_table(
    place: Path, store: Path, fitted: Model, decodes_nothing: None
) -> None:
    """To the bit, with the recipe of the store and with the one that was given to both."""
    for recipe in (None, RECIPE):
        own = polymodal.fit(place / "train.parquet", prepared=store, recipe=recipe)
        assert same_weights(own, fitted)
        assert own.metrics == fitted.metrics
        assert own.run.cell_errors == fitted.run.cell_errors


def test_pretraining_from_the_store_is_pretraining_from_the_table(place: Path, tmp_path: Path) -> None:
    table, out = place / "train.parquet", tmp_path / "store"
    recipe = {**RECIPE, "training": {**RECIPE["training"], "epochs": 1}}
    assert prepare(table, out=out, objectives="contrastive", recipe=recipe, **OPTIONS).complete
    stored = polymodal.pretrain(table, prepared=out)
    assert same_weights(stored, polymodal.pretrain(table, "contrastive", recipe=recipe))
    with pytest.raises(RecipeError, match="was prepared with"):
        polymodal.pretrain(table, prepared=place / "store")
    with pytest.raises(RecipeError, match="which has no target"):
        prepare(table, "kind", out=tmp_path / "other", objectives="contrastive", recipe=recipe)


def test_members_are_those_of_the_table(place: Path, tmp_path: Path) -> None:
    """Estimators read the stored items, too; and a target can be a text, with a prompt."""
    settings = {"quality": "fast", "data.ignore_columns": ["picture", "words"], "evaluation.bootstrap_samples": 0}
    prepare(place / "train.parquet", "kind", out=tmp_path / "fast", settings=settings)
    one = polymodal.fit(place / "train.parquet", "kind", settings=settings)
    assert one.metrics == polymodal.fit(place / "train.parquet", "kind", prepared=tmp_path / "fast").metrics
    task = {"name": "text_generation", "prompt": "{words}", "max_target_length": 4}
    recipe = {
        "hidden_size": 8,
        "inputs": {"length": RECIPE["inputs"]["length"]},
        "outputs": {"words": {"columns": ["kind"], "task": task}},
        "training": {**RECIPE["training"], "epochs": 1},
        "evaluation": RECIPE["evaluation"],
    }
    prepare(place / "train.parquet", out=tmp_path / "texts", recipe=recipe, **OPTIONS)
    one = polymodal.fit(place / "train.parquet", recipe=recipe)
    assert same_weights(one, polymodal.fit(place / "train.parquet", prepared=tmp_path / "texts"))


def changed(**changes: Any) -> dict[str, Any]:
    return {**RECIPE, **changes}


def test_another_store_is_refused(place: Path, store: Path, tmp_path: Path) -> None:
    """The message names the key of the recipe that differs."""
    table = place / "train.parquet"
    inputs = RECIPE["inputs"]
    larger = {**inputs, "picture": {**inputs["picture"], "modality": {"name": "image", "image_size": 40}}}
    for recipe, key in (
        (changed(inputs=larger), "inputs.picture.modality.image_size"),
        (changed(data={"split": {"test_size": 0.2}}), "data.split.test_size"),
        (changed(inputs={name: inputs[name] for name in ("words", "length")}), "inputs"),
        (changed(seed=5), "seed"),
    ):
        with pytest.raises(RecipeError) as caught:
            polymodal.fit(table, recipe=recipe, prepared=store)
        assert caught.value.path == key
    with pytest.raises(RecipeError, match="the target 'kind', not words"):
        polymodal.fit(table, "words", prepared=store)
    pq.write_table(pq.read_table(table).slice(0, 100), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"the rows of another table.*'train.parquet' with 160 rows, here 100 rows"):
        polymodal.fit(tmp_path / "other.parquet", prepared=store)
    with pytest.raises(DataError, match="there is no store of prepared rows"):
        polymodal.fit(table, prepared=tmp_path / "nothing")
    with pytest.raises(OutputError, match="a store of another recipe, table or number of rows"):
        prepare(table, out=store, recipe=changed(seed=5), **OPTIONS)
    with pytest.raises(OutputError, match="shards of another recipe, table or number of rows"):
        prepare(table, out=store, recipe=RECIPE, **{**OPTIONS, "shard_rows": 70})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"no shards of prepared rows \(notes.txt\)"):
        prepare(table, out=tmp_path / "mine", recipe=RECIPE, overwrite=True, **OPTIONS)


def test_an_incomplete_or_damaged_store_is_refused(place: Path, tmp_path: Path) -> None:
    table = place / "train.parquet"
    prepare(table, out=tmp_path / "store", recipe=RECIPE, **{**OPTIONS, "shards": "0/2"})
    with pytest.raises(DataError, match="the store is not complete"):
        polymodal.fit(table, prepared=tmp_path / "store")
    prepare(table, out=tmp_path / "store", recipe=RECIPE, **OPTIONS)
    damaged = sorted((tmp_path / "store").glob("part-*"))[1]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(DataError, match=r"the file is damaged.*its content is not what was written"):
        polymodal.fit(table, prepared=tmp_path / "store")


def test_frozen_layers_run_in_preparation(place: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The store holds features in place of images, and training is that of the table up to rounding."""
    image = {"columns": ["picture"], "modality": "image"}
    frozen = {"name": "pretrained_image", "checkpoint": checkpoint("image")}
    recipe = changed(
        inputs={**RECIPE["inputs"], "picture": {**image, "encoder": frozen}},
        training={**RECIPE["training"], "feature_cache": {"dtype": "fp32"}},
    )
    table, out = place / "train.parquet", tmp_path / "store"
    prepare(table, out=out, recipe=recipe, **OPTIONS)
    opened = PreparedStore.open(out)
    assert list(opened.facts.features) == ["picture"]
    assert set(opened.shards[0].items(0)["picture"].take(np.array([0]))) == {"hidden", "length"}
    one = polymodal.fit(table, recipe=recipe)
    request.getfixturevalue("decodes_nothing")
    other = polymodal.fit(table, prepared=out)
    for name, weights in one.network.state_dict().items():
        torch.testing.assert_close(weights, other.network.state_dict()[name], rtol=1e-3, atol=1e-4)
    inputs = {**RECIPE["inputs"], "picture": {**image, "encoder": {**frozen, "fine_tuning": "full"}}}
    with pytest.raises(RecipeError, match=r"inputs\.picture\.encoder: its frozen layers are not those"):
        polymodal.fit(table, prepared=out, recipe=changed(inputs=inputs))


def test_a_store_in_an_object_store(place: Path, store: Path, fitted: Model, s3: str) -> None:
    (place / "upload").mkdir()
    (place / "upload" / "train.parquet").write_bytes((place / "train.parquet").read_bytes())
    data, out = f"{upload(place / 'upload', f'{s3}/prepare')}/train.parquet", f"{s3}/prepared"
    for computed in (5, 0):
        done = prepare(data, out=out, recipe=RECIPE, **OPTIONS)
        assert (done.computed, done.complete, done.out) == (computed, True, out)
    assert same_weights(polymodal.fit(data, prepared=out), fitted)


def test_shards_are_safetensors_files(store: Path) -> None:
    from safetensors.numpy import load_file

    name = sorted(file.name for file in store.glob("part-*"))[0]
    arrays = load_file(store / name)
    shard = PreparedShard(PreparedStore.open(store).shards[0].file)
    assert shard.file.folder.root == ShardFolder(store).root
    assert arrays["rows.output0.present"].shape == (50,)
    own = shard.file.group(3)
    assert own
    for key, array in own.items():
        np.testing.assert_array_equal(arrays[f"3.{key}"], array)
