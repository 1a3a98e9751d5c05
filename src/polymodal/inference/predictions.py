"""What a network decides for one output, and its mean loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polymodal.tasks.base import Task


@dataclass(frozen=True)
class Predictions:
    """What a network decided for one output over `rows`, on the processor.

    values: `[rows, k]` fp32; of a text the tokens that were written, `[rows, steps]` int64, -1 behind them (-2 first in
        a row whose prompt cannot be used)
    views, view_weights: decoded values `[rows, k]` and weights `[rows]` of each view, by name
    losses: of a text whose target is known, `[rows, 2]`: its negative log-likelihood in nats, and its tokens
    """

    values: Tensor
    views: dict[str, Tensor]
    view_weights: dict[str, Tensor]
    losses: Tensor | None = None

    def cpu(self) -> Predictions:
        """The same on the processor."""
        return self._changed(lambda tensor: tensor.cpu())

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions], order: Tensor) -> Predictions:
        """The rows of `parts` one after the other, then taken in `order`."""
        first = parts[0]
        losses = [part.losses for part in parts if part.losses is not None]
        return cls(
            _joined([part.values for part in parts], order),
            {name: _joined([part.views[name] for part in parts], order) for name in first.views},
            {name: _joined([part.view_weights[name] for part in parts], order) for name in first.view_weights},
            _joined(losses, order) if losses else None,
        )

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Predictions:
        views, weights = ({name: change(one) for name, one in by.items()} for by in (self.views, self.view_weights))
        return Predictions(change(self.values), views, weights, None if self.losses is None else change(self.losses))


def _joined(tensors: list[Tensor], order: Tensor) -> Tensor:
    if tensors[0].dtype == torch.int64:
        longest = max(tensor.shape[1] for tensor in tensors)
        tensors = [functional.pad(one, (0, longest - one.shape[1]), value=-1) for one in tensors]
    return torch.cat(tensors).index_select(0, order)


def mean_task_loss(task: Task, decisions: Predictions, target: np.ndarray, present: np.ndarray) -> float:
    """The mean loss of a task over the rows that have its target."""
    if not present.any():
        return float("nan")
    known = torch.from_numpy(present)
    if decisions.losses is not None:
        nats, tokens = decisions.losses[known].unbind(1)
        return float(nats.sum() / tokens.sum().clamp_min(1))
    return float(task.loss(decisions.values[known], task.collate(target[present])).mean())
