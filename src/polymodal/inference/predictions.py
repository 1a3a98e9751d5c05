"""The predictions of a network for one output, and their mean loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polymodal.distributed.world import World
from polymodal.tasks.base import Task


@dataclass(frozen=True)
class Predictions:
    """The raw predictions of a network for one output over `rows`, on the CPU.

    values: `[rows, k]` fp32; for text and image outputs the generated tokens `[rows, steps]` int64, padded with -1 (the
        first token is -2 if the prompt of the row is unusable)
    branches, branch_weights: values `[rows, k]` and weights `[rows]` of each branch of the fusion, by name
    losses: for text and image outputs with a known target, `[rows, 2]`: negative log-likelihood in nats, and number of
        tokens
    """

    values: Tensor
    branches: dict[str, Tensor]
    branch_weights: dict[str, Tensor]
    losses: Tensor | None = None

    def cpu(self) -> Predictions:
        """The predictions on the CPU."""
        return self._changed(lambda tensor: tensor.cpu())

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions], order: Tensor) -> Predictions:
        """The concatenated rows of `parts`, reordered by `order`."""
        first = parts[0]
        losses = [part.losses for part in parts if part.losses is not None]
        return cls(
            _joined([part.values for part in parts], order),
            {name: _joined([part.branches[name] for part in parts], order) for name in first.branches},
            {name: _joined([part.branch_weights[name] for part in parts], order) for name in first.branch_weights},
            _joined(losses, order) if losses else None,
        )

    def gathered(self, world: World) -> Predictions:
        """The rows of all processes in their order."""

        def gather(tensor: Tensor) -> Tensor:
            parts = world.gather_tensors(tensor)
            return _joined(parts, torch.arange(sum(len(part) for part in parts)))

        return self._changed(gather)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Predictions:
        branches, weights = (
            {name: change(one) for name, one in by.items()} for by in (self.branches, self.branch_weights)
        )
        return Predictions(change(self.values), branches, weights, None if self.losses is None else change(self.losses))


def _joined(tensors: list[Tensor], order: Tensor) -> Tensor:
    if tensors[0].dtype == torch.int64:
        longest = max(tensor.shape[1] for tensor in tensors)
        tensors = [functional.pad(one, (0, longest - one.shape[1]), value=-1) for one in tensors]
    return torch.cat(tensors).index_select(0, order)


def mean_task_loss(task: Task, predictions: Predictions, target: np.ndarray, present: np.ndarray) -> float:
    """The mean loss of a task over the rows that have its target."""
    if not present.any():
        return float("nan")
    known = torch.from_numpy(present)
    if predictions.losses is not None:
        nll, tokens = predictions.losses[known].unbind(1)
        return float(nll.sum() / tokens.sum().clamp_min(1))
    return float(task.loss(predictions.values[known], task.collate(target[present])).mean())
