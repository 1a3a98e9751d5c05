"""The batch sampler of a training run."""

from __future__ import annotations

import numpy as np

from polymodal.data.group_sampler import GroupSampler, RowKeys
from polymodal.data.partition import Split
from polymodal.data.sampler import BatchSampler
from polymodal.inference.batching import batch_order
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe

#: Rows per group in one batch, for tasks that need several rows of a group.
ROWS_PER_GROUP = 4


def make_sampler(
    recipe: Recipe, network: Network, preparation: Preparation, train: Split[PreparedTable]
) -> BatchSampler | GroupSampler:
    """The sampler of training batches.

    A batch holds rows of the same group if a task asks for groups; otherwise rows that share an item, or rows of
    similar length. If rows are read in row groups, it holds rows of the groups that are open.
    """
    shared, lengths = batch_order(train)
    together = _together(preparation, train)
    if not recipe.training.group_by_item or network.compares_rows:
        shared = None
    group, rows_per_group = shared if together is None else together, None if together is None else ROWS_PER_GROUP
    if train.table.row_groups is not None:
        keys = RowKeys(group, lengths, rows_per_group)
        batch_size = recipe.training.batch_size or 1
        return GroupSampler(train.rows, batch_size, recipe.seed, train.table.row_groups, keys)
    return BatchSampler(
        train.rows,
        recipe.training.batch_size or 1,
        recipe.seed,
        group=group,
        lengths=lengths,
        rows_per_group=rows_per_group,
        data_set=None if train.table.data_set is None else train.table.data_set[train.rows],
        temperature=recipe.data.sampling_temperature,
    )


def _together(preparation: Preparation, train: Split[PreparedTable]) -> np.ndarray | None:
    """The group of each training row from the first task that needs rows of the same group in one batch."""
    for name, task in preparation.tasks.items():
        value, present = train.table.targets[name]
        found = task.row_groups(value[train.rows], present[train.rows])
        if found is not None:
            return found
    return None
