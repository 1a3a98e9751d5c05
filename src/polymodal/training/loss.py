"""The loss of a batch: named losses, summed with fixed or learned weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from polymodal.core.errors import RecipeError
from polymodal.core.types import Batch, LossTerm, TargetBatch, TaskOutput
from polymodal.distributed.gradients import sum_gradients
from polymodal.distributed.world import SINGLE, World
from polymodal.nn.objectives.base import ObjectiveLoss
from polymodal.tasks.base import Task
from polymodal.training.distillation import TeacherTargets
from polymodal.training.gradient_blending import GradientBlending
from polymodal.training.loss_balancing import GradNorm, PCGrad


@dataclass
class Losses:
    """The losses of a batch.

    With several processes, a loss is the part of this process (`World`).

    named: the weighted loss of each output and objective, and the `penalty` of the fusion
    parts: all single terms, detached (`answer`, `answer.branch.image`, `contrastive.image-caption`)
    baselines: by term of an objective, the loss of a constant prediction and the weight of the batch
    """

    named: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, Tensor] = field(default_factory=dict)
    baselines: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """The scalar to minimize."""
        losses = list(self.named.values())
        return sum(losses[1:], losses[0]) if losses else torch.zeros(())


class Loss(nn.Module):
    """Weights and sums the losses of outputs and objectives.

    fixed: L = sum_o w_o L_o, with the weights of the recipe.
    uncertainty: L = sum_o w_o (exp(-s_o) L_o + s_o / 2), s_o learned (Kendall, Gal & Cipolla, "Multi-Task Learning
        Using Uncertainty to Weigh Losses for Scene Geometry and Semantics", 2018, equation 7 with s = log sigma^2,
        with the factor 1/2 of the regression term included in the task's loss).
    gradnorm, pcgrad: as fixed; the gradients are changed as `loss_balancing` describes.

    With several processes, means are over the rows of all.
    With `blending`, the loss of each branch of an output has an additional weight.
    With `teacher_targets`, L_o becomes (1 - d) L_o + d D_o, where D_o is the distance from the teacher's predictions
    and d is `training.distillation.weight`.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        weights: Mapping[str, float],
        balance: Literal["fixed", "uncertainty", "gradnorm", "pcgrad"],
        teacher_targets: TeacherTargets | None = None,
        blending: GradientBlending | None = None,
    ) -> None:
        super().__init__()
        self.tasks, self.weights, self.teacher_targets = tasks, dict(weights), teacher_targets
        self.blending = blending
        self.balancer = GradNorm(list(weights)) if balance == "gradnorm" else PCGrad() if balance == "pcgrad" else None
        self.log_variance = nn.Parameter(torch.zeros(len(weights))) if balance == "uncertainty" else None

    def forward(
        self,
        outputs: dict[str, TaskOutput],
        batch: Batch,
        terms: Mapping[str, list[ObjectiveLoss]] | None = None,
        world: World = SINGLE,
    ) -> Losses:
        """The losses of a batch, from the predictions of each output and the `terms` of each objective."""
        found = Losses()
        parts = found.parts
        for name, task in self.tasks.items():
            predicted, target = outputs[name], batch.targets[name]
            task_loss = predicted.values.new_zeros((), dtype=torch.float32)
            for term in predicted.terms:
                value = mean_loss(task, term, target, batch.weight, world)
                scale = term.scale if self.blending is None else term.scale * self.blending.weight(name, term.name)
                task_loss = task_loss + scale * value
                parts[name if term.name == "joint" else f"{name}.branch.{term.name}"] = value.detach()
            if self.teacher_targets is not None:
                weight = self.teacher_targets.options.weight
                distance = self._from_teacher(self.teacher_targets, name, predicted, batch, world)
                task_loss = (1 - weight) * task_loss + weight * distance
                parts[f"{name}.teacher"] = distance.detach()
            found.named[name] = self._weighted(name, task_loss, world)
            for kind, penalty in predicted.penalties.items():
                once = penalty / len(self.tasks)  # the penalty of a fusion counts once for all outputs
                found.named["penalty"] = found.named["penalty"] + once if "penalty" in found.named else once
                parts[f"penalty.{kind}"] = penalty.detach()
        for name, some in (terms or {}).items():
            if not some:
                continue
            found.named[name] = self._weighted(name, torch.stack([term.loss for term in some]).mean(), world)
            parts |= {f"{name}.{term.name}": term.loss.detach() for term in some}
            found.baselines |= {f"{name}.{term.name}": (term.baseline, term.num_values) for term in some}
        return found

    def backward(
        self,
        losses: Losses,
        parameters: Sequence[nn.Parameter],
        shared: Sequence[nn.Parameter],
        world: World = SINGLE,
        scaler: GradScaler | None = None,
    ) -> None:
        """Add to the gradient of each of `parameters`. With several processes, the gradient is the sum over all of
        them.

        shared: the last parameters that all losses share
        scaler: multiplies the gradients, which fp16 needs

        Raises:
            RecipeError: the loss balancing compares gradients, which cannot be scaled.
        """
        if self.balancer is not None and len(losses.named) > 1:
            if scaler is not None and scaler.is_enabled():
                raise RecipeError(
                    "training.precision", "fp16 has no effect with loss_balancing gradnorm or pcgrad: use bf16 or fp32"
                )
            self.balancer.backward(losses.named, parameters, shared, world)
        else:
            total = losses.total if scaler is None else scaler.scale(losses.total)
            total.backward()  # type: ignore[no-untyped-call]
            sum_gradients(parameters, world)

    def _weighted(self, name: str, loss: Tensor, world: World) -> Tensor:
        if self.log_variance is not None:
            spread = self.log_variance[list(self.weights).index(name)]
            loss = torch.exp(-spread) * loss + world.share(spread / 2)
        return loss * self.weights[name]

    def _from_teacher(
        self, teacher_targets: TeacherTargets, name: str, predicted: TaskOutput, batch: Batch, world: World
    ) -> Tensor:
        """The mean distance from the teacher over all rows, including rows without a target."""
        losses = teacher_targets.loss(name, self.tasks[name].space, predicted.values, batch.rows)
        weight = torch.ones_like(losses) if batch.weight is None else batch.weight
        return (losses * weight).sum() / world.sum(weight.sum()).clamp_min(1e-8)


def mean_loss(
    task: Task, term: LossTerm, target: TargetBatch, sample_weight: Tensor | None, world: World = SINGLE
) -> Tensor:
    """The mean loss over rows that have the target, weighted by branch and sample weights. The loss of a row of several
    members is the mean of their losses. With several processes, the mean is over the rows of all, and the result is the
    part of this process."""
    weight = term.weight.detach().float() * target.present
    if sample_weight is not None:
        weight = weight * sample_weight
    values = term.values.float()
    if task.compares_rows and world.size > 1:
        known = target.present  # a row without a target is no candidate
        gathered = (world.gather_rows(one[known]) for one in (values, target.value, weight))
        values, wanted, weight = gathered
        return world.share((task.loss(values, wanted) * weight).sum() / weight.sum().clamp_min(1e-8))
    counts = task.row_loss_weights(values)
    if counts is not None:
        weight = weight * counts
    if term.members is None:
        losses = task.loss(values, target.value)
    else:
        members = term.members.float()
        targets = target.value.repeat(len(members), *[1] * (target.value.dim() - 1))
        losses = task.loss(members.flatten(0, 1), targets).view(len(members), -1).mean(0)
    return (losses * weight).sum() / world.sum(weight.sum()).clamp_min(1e-8)
