"""A step in parts, for a batch whose activations do not fit into the memory of the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from polymodal.core.errors import TrainingError
from polymodal.core.types import Batch, InputBatch, LossTerm, TaskOutput
from polymodal.nn.network import Network


class StepParts:
    """The number of parts in which the batches of a run are computed.

    splits_rows: whether a part is a number of rows. Otherwise rows or inputs of a batch are compared with one another,
        and the encoders alone run in parts
    """

    def __init__(self, network: Network, *, splits_rows: bool) -> None:
        self.network, self.splits_rows, self.count = network, splits_rows, 1

    def set_count(self, count: int, rows: int) -> None:
        """Compute batches of `rows` rows in `count` parts."""
        self.count = count
        if not self.splits_rows and count > 1:
            for tower in self.network.towers.values():
                tower.chunk_size = min(tower.chunk_size or rows, -(-rows // count))

    def increase(self, rows: int) -> str:
        """Double the number of parts for batches of `rows` rows; returns a sentence for the user.

        Raises:
            TrainingError: a part would have less than one row.
        """
        self.set_count(more_parts(self.count, rows), rows)
        return (
            f"the memory of the device was full: batches are computed in {self.count} parts, which takes longer. The "
            "loss and its gradient are those of the whole batch"
        )


def more_parts(parts: int, rows: int) -> int:
    """Twice the number of parts of a batch of `rows` rows.

    Raises:
        TrainingError: a part would have less than one row.

    Example:
        >>> more_parts(1, 64), more_parts(32, 60)
        (2, 60)
    """
    if parts >= rows:
        raise TrainingError(
            "the memory of the device is full with one row at a time: use a smaller model (size, hidden_size), train "
            "fewer parameters (fine_tuning: lora), or shorten the inputs (max_length, image_size)"
        )
    return min(2 * parts, rows)


def predict_in_parts(network: Network, batch: Batch, hidden: Mapping[str, Tensor], parts: int) -> dict[str, TaskOutput]:
    """The predictions of `network(batch, hidden)`, computed in `parts` parts of the rows.

    The activations of a part are computed again in the backward pass, so the device holds those of one part at a time.
    The loss is that of the whole batch, with its denominators. Batch norm sees the rows of a part.
    """
    outputs, sizes = [], []
    for rows in torch.arange(len(batch)).chunk(parts):
        start, stop = int(rows[0]), int(rows[-1]) + 1
        own = {name: one[start:stop] for name, one in hidden.items()}
        part = select_rows(batch, start, stop)
        outputs.append(checkpoint(network, part, own, use_reentrant=False))
        sizes.append((stop - start) / len(batch))
    return {name: _joined([one[name] for one in outputs], sizes) for name in outputs[0]}


def select_rows(batch: Batch, start: int, stop: int) -> Batch:
    """The rows from `start` to `stop` of a batch, with the items of these rows only."""
    inputs = {}
    for name, one in batch.inputs.items():
        present = one.present[start:stop]
        items, index = torch.unique(one.index[start:stop][present], return_inverse=True)
        own = torch.zeros_like(one.index[start:stop]).masked_scatter(present, index)
        data = {key: tensor.index_select(0, items) for key, tensor in one.data.items()}
        numbers = None if one.table_items is None else one.table_items[start:stop]
        inputs[name] = InputBatch(data, own, present, numbers)
    return Batch(
        inputs,
        {
            name: replace(one, value=one.value[start:stop], present=one.present[start:stop])
            for name, one in batch.targets.items()
        },
        batch.rows[start:stop],
        None if batch.weight is None else batch.weight[start:stop],
        {name: prompt[start:stop] for name, prompt in batch.prompts.items()},
    )


def _joined(outputs: Sequence[TaskOutput], sizes: Sequence[float]) -> TaskOutput:
    """The predictions of all parts in order; a penalty is the mean over rows."""
    terms = [_joined_term(terms) for terms in zip(*(one.terms for one in outputs), strict=True)]
    penalties = {
        name: torch.stack([one.penalties[name] * size for one, size in zip(outputs, sizes, strict=True)]).sum()
        for name in outputs[0].penalties
    }
    branches = {name: torch.cat([one.per_branch[name] for one in outputs]) for name in outputs[0].per_branch}
    return TaskOutput(torch.cat([one.values for one in outputs]), terms, penalties, branches)


def _joined_term(terms: Sequence[LossTerm]) -> LossTerm:
    members = [term.members for term in terms if term.members is not None]
    return replace(
        terms[0],
        values=torch.cat([term.values for term in terms]),
        weight=torch.cat([term.weight for term in terms]),
        members=torch.cat(members, dim=1) if members else None,
    )
