"""Run a network over prepared rows: decided values in the order of the rows that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polymodal.data.sampler import sequential
from polymodal.network import Network
from polymodal.preparation import Damage, Preparation, PreparedTable
from polymodal.tasks.base import Task
from polymodal.training.machine import Machine

PREDICTION_BATCH = 1024
#: Bytes of prepared items that one inference batch may hold: activations are some tens of times as much.
BATCH_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Decisions:
    """What a network decided for one output over `rows`.

    values: `[rows, k]` fp32
    views, view_weights: decoded values `[rows, k]` and weights `[rows]` of each view, by name
    """

    values: Tensor
    views: dict[str, Tensor]
    view_weights: dict[str, Tensor]


def decide(
    network: Network,
    preparation: Preparation,
    prepared: PreparedTable,
    rows: np.ndarray,
    *,
    machine: Machine,
    batch: int,
    hide: frozenset[str] = frozenset(),
    damage: Damage | None = None,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Decisions]:
    """Decide every output for `rows`, in evaluation mode; inputs named in `hide` count as missing, and
    `damage` is done to one input.

    Rows are visited in the order that pads least and encodes each shared item once; the results come back in the
    order of `rows`.
    """
    training = network.training
    if training:
        network.eval()
    gathered: dict[str, list[Decisions]] = {name: [] for name in network.outputs}
    visited: list[np.ndarray] = []
    batch = bounded(batch, prepared)
    with torch.inference_mode(), machine.active():
        for places in sequential(np.arange(len(rows)), batch, *grouping(prepared, rows)):
            one = preparation.batch(prepared, rows[places], damage=damage)
            hidden = {name: torch.ones(len(places), dtype=torch.bool) for name in hide}
            for name, decided in network(one, hidden).items():
                weights = {term.name: term.weight for term in decided.terms if term.name in decided.views}
                gathered[name].append(Decisions(decided.values.float(), decided.views, weights))
            visited.append(places)
            if advance:
                advance(len(places))
    if training:
        network.train()
    back = torch.from_numpy(np.argsort(np.concatenate(visited), kind="stable"))
    return {name: _join(parts, back) for name, parts in gathered.items()}


def bounded(batch: int, prepared: PreparedTable) -> int:
    """`batch` rows, or fewer where so many sounds, clips or images at once would take too much memory."""
    row = sum(source.items.item_bytes() for source in prepared.inputs.values())
    return min(batch, max(1, int(BATCH_BYTES / max(row, 1.0))))


def _join(parts: list[Decisions], back: Tensor) -> Decisions:
    def joined(tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors).index_select(0, back)

    first = parts[0]
    return Decisions(
        joined([part.values for part in parts]),
        {name: joined([part.views[name] for part in parts]) for name in first.views},
        {name: joined([part.view_weights[name] for part in parts]) for name in first.view_weights},
    )


def grouping(prepared: PreparedTable, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """How to order `rows`: the item index of the most shared input (None if nothing is shared by two rows on
    average), and otherwise the summed length of ragged inputs (None if there is none)."""
    shared, most = None, 2.0
    lengths: np.ndarray | None = None
    for source in prepared.inputs.values():
        index = source.index[rows]
        present = index[index >= 0]
        if len(present) == 0:
            continue
        item_lengths = source.items.lengths()
        if item_lengths is not None:
            own = np.where(index >= 0, item_lengths[index], 0)
            lengths = own if lengths is None else lengths + own
        elif len(present) / len(np.unique(present)) >= most:  # sharing saves most where items are large
            most = len(present) / len(np.unique(present))
            shared = index
    return shared, None if shared is not None else lengths


def mean_task_loss(task: Task, decisions: Decisions, target: np.ndarray, present: np.ndarray) -> float:
    """The mean loss of a task over the rows that have its target."""
    if not present.any():
        return float("nan")
    known = torch.from_numpy(present)
    return float(task.loss(decisions.values[known], torch.from_numpy(target)[known]).mean())
