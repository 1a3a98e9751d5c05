"""The rows of a batch that one of several processes computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from polymodal.core.types import Batch
from polymodal.data.partition import Split
from polymodal.data.sampler import divide_rows
from polymodal.data.store.items import PreparedInput
from polymodal.distributed.world import World
from polymodal.inference.batching import shared_input
from polymodal.preparation.preparation import Preparation, PreparedTable

#: The row of the table in place of no row.
SUBSTITUTE_ROW = 0


class ProcessRows:
    """Divides the rows of each training batch among the processes, and makes the batch of this process.

    Rows that share an item stay together, so that one process encodes it. Every process takes part in every step. A
    process without a row computes a row without inputs and targets, which has no weight and is no candidate.
    """

    def __init__(self, preparation: Preparation, train: Split[PreparedTable], world: World) -> None:
        self.preparation, self.table, self.world = preparation, train.table, world
        self.shared_input = shared_input(train) if world.size > 1 else None

    def own(self, rows: np.ndarray) -> np.ndarray:
        """The rows of this process in the batch `rows`."""
        if self.world.size == 1:
            return rows
        group = None if self.shared_input is None else self.table.inputs[self.shared_input].index[rows]
        return divide_rows(rows, group, self.world.size)[self.world.rank]

    def batch(self, rows: np.ndarray, *, augment: bool) -> Batch:
        """The batch of `rows`, which may be none."""
        if not len(rows):
            return self._substitute()
        batch = self.preparation.batch(self.table, rows, augment=augment)
        if self.world.size == 1:
            return batch
        items = {name: torch.from_numpy(source.index[rows]) for name, source in self.table.inputs.items()}
        inputs = {name: replace(one, table_items=items[name]) for name, one in batch.inputs.items()}
        return replace(batch, inputs=inputs)

    def _substitute(self) -> Batch:
        """One row without inputs and targets, with the weight 0."""
        row, table = np.array([SUBSTITUTE_ROW]), self.table
        bare = PreparedTable(
            inputs={name: PreparedInput(np.array([-1]), source.items) for name, source in table.inputs.items()},
            targets={name: (value[row], np.array([False])) for name, (value, _) in table.targets.items()},
            weight=np.zeros(1, np.float32),
            rows=1,
            prompts={name: prompts[row] for name, prompts in table.prompts.items()},
        )
        batch = self.preparation.batch(bare, np.array([0]))
        inputs = {name: replace(one, table_items=torch.tensor([-1])) for name, one in batch.inputs.items()}
        return replace(batch, inputs=inputs, rows=torch.from_numpy(row))
