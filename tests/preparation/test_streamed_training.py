"""Rows that are read in row groups: each once an epoch, found again from (epoch, batch), with bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import polymodal
from distributed.launch import start
from laws.test_resume import Killed, KilledAt
from polymodal.core.progress import Progress
from polymodal.data.group_sampler import GroupSampler, RowGroups, RowKeys
from polymodal.data.partition import Split, make_splits
from polymodal.data.store.item_arrays import GroupedItems
from polymodal.data.store.items import FixedItems, Items, JoinedItems, RaggedItems
from polymodal.distributed.world import World
from polymodal.experiments.arguments import open_tables
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.stored_rows import StoredRows
from polymodal.experiments.train_network import train_network
from polymodal.inference.batching import iter_batches
from polymodal.preparation.prepared_store import PreparedStore
from polymodal.training.process_rows import ProcessRows
from stream_rows import GROUP_ROWS, OPEN_GROUPS, VALUES, small_preparation, wide_store

SIZES = [40, 7, 25, 0, 40, 40, 13, 40, 1, 40]
GROUPS = RowGroups(np.cumsum([0, *SIZES]), 3)
#: Training rows: most rows, and none of group 4.
ROWS = np.array([row for row in range(sum(SIZES)) if row % 5 and GROUPS.group_of(np.array([row]))[0] != 4])


def keys_of(kind: str) -> RowKeys:
    draw = np.random.default_rng(0)
    if kind == "items":
        return RowKeys(group=draw.integers(-1, 30, len(ROWS)))
    return RowKeys(lengths=draw.integers(1, 9, len(ROWS))) if kind == "lengths" else RowKeys()


@pytest.mark.parametrize("kind", ["", "items", "lengths"])
def test_an_epoch_has_each_row_once_and_opens_few_groups(kind: str) -> None:
    """D6"""
    asked: list[list[int]] = []
    groups = RowGroups(GROUPS.starts, GROUPS.open_groups, lambda some: asked.append(list(some)))
    sampler = GroupSampler(ROWS, 8, 1, groups, keys_of(kind))
    for epoch in range(2):
        batches = sampler.epoch(epoch)
        drawn = [batches[one] for one in range(len(batches))]
        assert sorted(np.concatenate(drawn).tolist()) == ROWS.tolist()
        assert max(map(len, drawn)) <= 8
        opened = [set(GROUPS.group_of(rows).tolist()) for rows in drawn]
        windows = list(dict.fromkeys(tuple(some) for some in asked))
        assert all(any(own <= set(some[:3]) for some in windows) for own in opened)
    assert not np.array_equal(sampler.epoch(0)[0], sampler.epoch(1)[0])


@pytest.mark.parametrize("kind", ["", "items", "lengths"])
def test_a_batch_is_found_again_from_its_epoch_and_number(kind: str) -> None:
    """Without those before it, so an interrupted run needs no state of the sampler."""
    batches = GroupSampler(ROWS, 8, 1, GROUPS, keys_of(kind)).epoch(2)
    for number in (len(batches) - 1, 3, 0):
        again = GroupSampler(ROWS, 8, 1, GROUPS, keys_of(kind)).epoch(2)
        np.testing.assert_array_equal(again[number], batches[number])


def test_items_of_groups_are_those_of_one_group() -> None:
    draw = np.random.default_rng(0)

    def ragged(count: int, pad: float = 0) -> RaggedItems:
        lengths = draw.integers(0, 5, count)
        return RaggedItems({"values": draw.normal(size=(int(lengths.sum()), 2))}, np.cumsum([0, *lengths]), pad)

    def joined(count: int) -> JoinedItems:
        return JoinedItems(ragged(count), {"ngram": ragged(count, -1), "other": ragged(count)}, ("ngram",))

    def fixed(count: int) -> FixedItems:
        return FixedItems({"values": draw.normal(size=(count, 3)), "known": draw.integers(0, 2, count) > 0})

    for make in (ragged, joined, fixed):
        parts: list[Items] = [make(count) for count in (4, 0, 6, 1)]
        starts = np.array([0, 4, 4, 10, 11])
        grouped = GroupedItems(starts, parts.__getitem__, None, 1.0)
        ids = draw.permutation(11)[:9]
        taken = grouped.take(ids)
        for place, item in enumerate(ids.tolist()):
            part = int(np.searchsorted(starts, item, side="right")) - 1
            own = parts[part].take(np.array([item - starts[part]]))
            assert own.keys() == taken.keys()
            for name, array in own.items():
                row = taken[name][place]
                if array.ndim > 1 and make is not fixed:
                    np.testing.assert_array_equal(row[: array.shape[1]], array[0])
                    rest = row[array.shape[1] :]
                    assert (rest == (-1 if name.startswith("ngram") else 0)).all()
                else:
                    np.testing.assert_array_equal(row, array[0])


def test_each_group_is_read_once_an_epoch_and_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    preparation, table = small_preparation()
    store = wide_store(tmp_path / "store", preparation, 20)
    read: list[int] = []
    for shard in store.shards:
        whole = shard.items
        monkeypatch.setattr(shard, "items", lambda group, whole=whole: (read.append(group), whole(group))[1])
    prepared = store.stream(preparation, table, OPEN_GROUPS)
    assert prepared.row_groups is not None
    assert read == []
    sampler = GroupSampler(np.arange(len(prepared)), 64, 0, prepared.row_groups, RowKeys())
    for rows in sampler.epoch(0):
        preparation.batch(prepared, rows)
    assert len(read) == 20
    read.clear()
    for positions in iter_batches(Split.all_rows(prepared), 100):
        preparation.batch(prepared, positions)
    assert len(read) <= 20


@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_the_rows_of_each_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """D6: each row once an epoch, whatever the number of processes."""
    monkeypatch.chdir(tmp_path)
    preparation, table = small_preparation()
    prepared = wide_store(tmp_path / "store", preparation, 8).stream(preparation, table, 2)
    assert prepared.row_groups is not None
    train = Split(prepared, np.arange(0, len(prepared), 3))
    sampler = GroupSampler(train.rows, 50, 0, prepared.row_groups, RowKeys())
    processes = [ProcessRows(preparation, train, World(rank, size)) for rank in range(size)]
    seen = []
    for rows in sampler.epoch(1):
        for process in processes:
            own = process.own(rows)
            batch = process.batch(own, augment=False)
            items = batch.inputs["x"].data["values"][batch.inputs["x"].index][:, 0]
            assert not len(own) or items.tolist() == own.tolist()
            seen += own.tolist()
    assert sorted(seen) == train.rows.tolist()


def test_memory_is_bounded_by_what_is_open(tmp_path: Path) -> None:
    """D8: ten times the rows need no more memory than the row groups that are open, twice."""
    command = [sys.executable, "-m", "stream_rows", str(tmp_path)]
    folder = str(Path(__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    small, large = (int(line) * 1024 for line in done.stdout.split())
    group = GROUP_ROWS * VALUES * 4
    assert 160 * group > 10 * (large - small)
    assert large - small < 2 * OPEN_GROUPS * group + 8 * 2**20


RECIPE: dict[str, Any] = {
    "hidden_size": 16,
    "inputs": {
        "words": {"columns": ["words"], "modality": "text", "encoder": "embedding_bag"},
        "length": {"columns": ["length"], "modality": "number"},
    },
    "outputs": {"kind": {"columns": ["kind"], "task": "classification"}},
    "fusion": "concat",
    "training": {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, "precision": "fp32", "num_threads": 1}
    | {"save_steps": 3},
    "data": {"shuffle_groups": 3},
    "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose class is an exclusive-or of a word and a sign, and its store of 13 row groups."""
    folder, draw = tmp_path_factory.mktemp("streaming"), np.random.default_rng(0)
    rows = 400
    words, length = draw.choice(["red", "blue"], rows), draw.normal(size=rows)
    kind = np.where((words == "red") ^ (length > 0), "a", "b")
    texts = [f"a {word} {other}" for word, other in zip(words, draw.choice(["hat", "cup"], rows), strict=True)]
    pq.write_table(pa.table({"words": texts, "length": length, "kind": kind}), folder / "train.parquet")
    polymodal.prepare(folder / "train.parquet", out=folder / "store", recipe=RECIPE, shard_rows=100, group_rows=32)
    return folder


def streamed(place: Path, folder: Path) -> Experiment:
    store = PreparedStore.open(place / "store")
    recipe, tables = store.preparation.recipe(), open_tables(place / "train.parquet")
    splits = make_splits(recipe, tables.train, None, None)
    stored = StoredRows.of(store, recipe, splits)
    experiment = prepare_experiment(recipe, splits, folder=folder, cache=None, progress=Progress(False), stored=stored)
    assert experiment.splits["train"].table.row_groups is not None
    return experiment


def test_a_streamed_run_learns(place: Path, tmp_path: Path) -> None:
    model = polymodal.fit(place / "train.parquet", prepared=place / "store", out=tmp_path / "run")
    assert model.metrics["test"]["kind"]["accuracy"]["value"] >= 0.85
    assert model.metrics["test"]["kind"]["accuracy"]["baseline"] <= 0.65


def test_a_streamed_run_that_is_killed_is_resumed_to_the_bit(place: Path, tmp_path: Path) -> None:
    """Killed within a window and within an epoch."""
    whole = train_network(streamed(place, tmp_path / "one"), progress=Progress(False))
    experiment, folder = streamed(place, tmp_path / "other"), tmp_path / "run"
    folder.mkdir()
    with pytest.raises(Killed):
        train_network(experiment, folder=folder, progress=KilledAt(32))
    resumed = train_network(experiment, folder=folder, resume=True, progress=Progress(False))
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(weights, resumed.network.state_dict()[name]), name


def test_two_processes_train_the_model_of_one(place: Path, tmp_path: Path) -> None:
    """Each reads its rows of every batch from the store; without random draws, the models are equal up to rounding."""
    settings = [
        "inputs.words.encoder.dropout=0",
        "inputs.words.encoder.token_dropout=0",
        "fusion.dropout=0",
        "outputs.kind.decoder.dropout=0",
        "training.modality_dropout=0",
        "training.epochs=2",
    ]
    table, store = str(place / "train.parquet"), str(place / "store")
    one = polymodal.fit(table, prepared=store, settings=settings, out=tmp_path / "one")
    words = [word for setting in settings for word in ("--set", setting)]
    command = ["-m", "polymodal", "fit", table, "--prepared", store, *words, "--out", str(tmp_path / "two"), "--json"]
    for process in start(2, command):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    two = polymodal.load(tmp_path / "two")
    assert isinstance(two, polymodal.Model)
    assert two.run.steps == one.run.steps
    for name, weights in one.network.state_dict().items():
        torch.testing.assert_close(two.network.state_dict()[name], weights, rtol=1e-3, atol=1e-4)
