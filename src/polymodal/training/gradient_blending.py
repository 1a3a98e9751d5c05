"""Gradient blending: the decisions of single inputs and of all together weigh as much as they generalise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polymodal.data.partition import Split
from polymodal.inference.predictions import Predictions
from polymodal.preparation.preparation import PreparedTable
from polymodal.tasks.base import Task

#: By output and view, the mean loss.
ViewLosses = dict[tuple[str, str], float]


class GradientBlending(nn.Module):
    """Weights of the views of each output, estimated anew after every few epochs (Wang, Tran & Feiszli, "What Makes
    Training Multi-modal Classification Networks Hard?", 2020, equations 2 and 5; online G-Blend).

        G_k = Lvalid_k(before) - Lvalid_k(now) ;  O_k = (Lvalid_k - Ltrain_k)(now) - (Lvalid_k - Ltrain_k)(before)
        w_k ~ max(G_k, 0) / O_k^2, scaled so that the weights of an output have the mean 1

    A view whose validation loss did not fall has no weight until it is estimated again; where none fell, all weights
    stay as they were. The state is in buffers, so that a run can be resumed.
    """

    weights: Tensor
    before: Tensor

    def __init__(self, outputs: Sequence[str], views: Sequence[str]) -> None:
        super().__init__()
        self.outputs, self.views = list(outputs), list(views)
        self.register_buffer("weights", torch.ones(len(self.outputs), len(self.views)))
        self.register_buffer("before", torch.full((2, len(self.outputs), len(self.views)), torch.nan))

    def of(self, output: str, view: str) -> float:
        """The weight of the loss of a view of an output."""
        return float(self.weights[self.outputs.index(output), self.views.index(view)])

    def estimate(self, train: Mapping[tuple[str, str], float], valid: Mapping[tuple[str, str], float]) -> None:
        """Weigh the views by what happened since the last call; the first call only remembers.

        train, valid: the mean loss of each view by output and view
        """
        now = torch.full_like(self.before, torch.nan)
        for row, output in enumerate(self.outputs):
            for column, view in enumerate(self.views):
                if (output, view) in train and (output, view) in valid:
                    now[0, row, column] = train[output, view]
                    now[1, row, column] = valid[output, view]
        for row in range(len(self.outputs)):
            found = blending_weights(self.before[:, row], now[:, row])
            if found is not None:
                self.weights[row] = found
        self.before.copy_(now)


def blending_weights(before: Tensor, now: Tensor) -> Tensor | None:
    """The weights of views from their losses before and now, `[2, views]` each (training, validation); None where no
    view generalised better than before, or nothing is known of the time before."""
    gain = (before[1] - now[1]).clamp_min(0)
    overfit = (now[1] - now[0]) - (before[1] - before[0])
    ratio = gain / overfit.square().clamp_min(1e-6)
    ratio = torch.where(ratio.isfinite(), ratio, 0.0)
    return None if float(ratio.sum()) <= 0 else ratio / ratio.mean()


def view_losses(
    tasks: Mapping[str, Task], decisions: Mapping[str, Predictions], split: Split[PreparedTable]
) -> ViewLosses:
    """The mean loss of each view of each output over the rows that have the target and in which the view counts."""
    found: ViewLosses = {}
    for output, task in tasks.items():
        value, present = (array[split.rows] for array in split.table.targets[output])
        for view, values in decisions[output].views.items():
            known = torch.from_numpy(present) & (decisions[output].view_weights[view] > 0)
            if bool(known.any()):
                loss = task.loss(values[known].float(), task.collate(value[known.numpy()]))
                found[output, view] = float(loss.mean())
    return found
