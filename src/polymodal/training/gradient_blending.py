"""Gradient blending: branches of a fusion are weighted by how well they generalize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.data.partition import Split
from polymodal.inference.predictions import Predictions
from polymodal.nn.network import Network
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.training import TrainingOptions
from polymodal.tasks.base import Task

#: The mean loss by output and branch.
BranchLosses = dict[tuple[str, str], float]


class GradientBlending(nn.Module):
    """Weights of the branches of each output, re-estimated after every few epochs (Wang, Tran & Feiszli, "What Makes
    Training Multi-modal Classification Networks Hard?", 2020, equations 2 and 5; online G-Blend).

        G_k = Lvalid_k(before) - Lvalid_k(now) ;  O_k = (Lvalid_k - Ltrain_k)(now) - (Lvalid_k - Ltrain_k)(before)
        w_k ~ max(G_k, 0) / O_k^2, scaled so that the weights of an output have the mean 1

    A branch whose validation loss did not fall has weight 0 until the next estimate. If no validation loss fell, the
    weights do not change. The state is stored in buffers, so a run can be resumed.
    """

    weights: Tensor
    previous_losses: Tensor

    def __init__(self, outputs: Sequence[str], branches: Sequence[str]) -> None:
        super().__init__()
        self.outputs, self.branches = list(outputs), list(branches)
        self.register_buffer("weights", torch.ones(len(self.outputs), len(self.branches)))
        self.register_buffer("previous_losses", torch.full((2, len(self.outputs), len(self.branches)), torch.nan))

    def weight(self, output: str, branch: str) -> float:
        """The loss weight of a branch of an output."""
        return float(self.weights[self.outputs.index(output), self.branches.index(branch)])

    def update(self, train: Mapping[tuple[str, str], float], valid: Mapping[tuple[str, str], float]) -> None:
        """Weight the branches by the change of their losses since the last call. The first call only stores the losses.

        train, valid: the mean loss by output and branch
        """
        now = torch.full_like(self.previous_losses, torch.nan)
        for row, output in enumerate(self.outputs):
            for column, branch in enumerate(self.branches):
                if (output, branch) in train and (output, branch) in valid:
                    now[0, row, column] = train[output, branch]
                    now[1, row, column] = valid[output, branch]
        for row in range(len(self.outputs)):
            found = blending_weights(self.previous_losses[:, row], now[:, row])
            if found is not None:
                self.weights[row] = found
        self.previous_losses.copy_(now)


def branch_train_losses(blending: GradientBlending, losses: Mapping[str, float]) -> BranchLosses:
    """The training loss of each branch of each output, from the losses of an epoch."""
    return {
        (output, branch): losses[key]
        for output in blending.outputs
        for branch in blending.branches
        if (key := output if branch == "joint" else f"{output}.branch.{branch}") in losses
    }


def blending_weights(before: Tensor, now: Tensor) -> Tensor | None:
    """The weights of branches from their previous and current losses, `[2, branches]` each (training, validation).

    None if the validation loss of no branch fell, or if there are no previous losses.
    """
    gain = (before[1] - now[1]).clamp_min(0)
    overfit = (now[1] - now[0]) - (before[1] - before[0])
    ratio = gain / overfit.square().clamp_min(1e-6)
    ratio = torch.where(ratio.isfinite(), ratio, 0.0)
    return None if float(ratio.sum()) <= 0 else ratio / ratio.mean()


def branch_losses(
    tasks: Mapping[str, Task], predictions: Mapping[str, Predictions], split: Split[PreparedTable]
) -> BranchLosses:
    """The mean loss of each branch of each output over rows that have the target and a positive branch weight."""
    found: BranchLosses = {}
    for output, task in tasks.items():
        value, present = (array[split.rows] for array in split.table.targets[output])
        for branch, values in predictions[output].branches.items():
            known = torch.from_numpy(present) & (predictions[output].branch_weights[branch] > 0)
            if bool(known.any()):
                loss = task.loss(values[known].float(), task.collate(value[known.numpy()]))
                found[output, branch] = float(loss.mean())
    return found


def make_blending(network: Network, options: TrainingOptions) -> GradientBlending | None:
    """The branch weights of each output, if the recipe uses gradient blending; else None.

    Raises:
        RecipeError: the fusion has only one branch.
    """
    if options.modality_balancing.method != "gradient_blending":
        return None
    branches = network.fusion.branch_names()
    if len(branches) < 2:
        raise RecipeError(
            "training.modality_balancing.method",
            "gradient_blending needs a fusion with several branches: use hybrid or late",
        )
    return GradientBlending(network.outputs, branches)
