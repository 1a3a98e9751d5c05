"""Streams stores of two sizes, and prints the peak of the resident memory after each; run by test_streaming.py."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np

from polymodal.data.group_file import GroupFile
from polymodal.data.group_sampler import GroupSampler, RowKeys
from polymodal.data.shard_folder import ShardFolder
from polymodal.data.store.items import FixedItems, PreparedInput
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table, open_table
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.preparation.prepared_shard import PreparedShard, PreparedShardWriter
from polymodal.preparation.prepared_store import PreparedStore, StoredPreparation, StoreFacts
from polymodal.recipe.recipe import Recipe

GROUP_ROWS, VALUES, OPEN_GROUPS = 256, 1024, 4
GROUPS_OF_SHARD = 8


def small_preparation() -> tuple[Preparation, Table]:
    """A preparation of one number and one class, and its table."""
    columns = {"x": [0.5, 1.5] * 8, "y": ["a", "b"] * 8}
    recipe = Recipe.read(
        {
            "inputs": {"x": {"columns": ["x"], "modality": "number"}},
            "outputs": {"y": {"columns": ["y"], "task": "classification"}},
        }
    )
    preparation, table = Preparation(recipe), open_table(columns, cache=Path("cache"))
    preparation.fit(table, np.arange(16))
    return preparation, table


def wide_store(folder: Path, preparation: Preparation, groups: int) -> PreparedStore:
    """A store whose items are wider than those of the preparation: the item of row i holds the number i."""
    folder.mkdir()
    rows, shards = groups * GROUP_ROWS, []
    facts = StoreFacts("", "table", "", rows, "", rows, GROUP_ROWS, {})
    place = ShardFolder(folder)
    for first in range(0, groups, GROUPS_OF_SHARD):
        with PreparedShardWriter(folder) as writer:
            for group in range(first, min(first + GROUPS_OF_SHARD, groups)):
                number = np.arange(group * GROUP_ROWS, (group + 1) * GROUP_ROWS)
                values = np.repeat(number[:, None], VALUES, 1).astype(np.float32)
                items = FixedItems({"values": values})
                target = (number % 2, np.ones(GROUP_ROWS, bool))
                inputs, wrong = {"x": PreparedInput(np.arange(GROUP_ROWS), items)}, np.zeros(GROUP_ROWS, bool)
                writer.add(PreparedTable(inputs, {"y": target}, None, GROUP_ROWS, unusable_targets={"y": wrong}))
            name = f"part-{first}.safetensors"
            writer.finish(folder / name, CellErrors())
            shards.append(PreparedShard(GroupFile.open(place, name)))
    return PreparedStore(place, StoredPreparation.of(preparation, facts), shards)


def stream(folder: Path, groups: int) -> None:
    """Read all rows of a store, batch by batch, and check them."""
    preparation, table = small_preparation()
    prepared = wide_store(folder, preparation, groups).stream(preparation, table, OPEN_GROUPS)
    assert prepared.row_groups is not None
    sampler = GroupSampler(np.arange(len(prepared)), 64, 0, prepared.row_groups, RowKeys())
    seen = []
    for rows in sampler.epoch(0):
        batch = preparation.batch(prepared, rows)
        found = batch.inputs["x"].data["values"][batch.inputs["x"].index][:, 0]
        assert found.tolist() == rows.tolist()
        assert batch.targets["y"].value.tolist() == (rows % 2).tolist()
        seen.append(rows)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(groups * GROUP_ROWS))


if __name__ == "__main__":
    for size in (16, 160):
        stream(Path(sys.argv[1]) / str(size), size)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
