"""Gradient-based loss balancing across outputs and objectives: `GradNorm` and `PCGrad`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polymodal.distributed.gradients import sum_gradients, sum_tensors
from polymodal.distributed.world import SINGLE, World

#: Asymmetry of GradNorm (alpha of the paper): higher values slow down quickly falling losses more.
GRADNORM_ALPHA = 1.5
#: Step size of the GradNorm weights toward their target.
GRADNORM_STEP = 0.025


class Balancer(nn.Module):
    """Turns the losses of a batch into gradients. Its state is stored in buffers, so a run can be resumed."""

    @abstractmethod
    def backward(
        self,
        losses: Mapping[str, Tensor],
        parameters: Sequence[nn.Parameter],
        shared: Sequence[nn.Parameter],
        world: World = SINGLE,
    ) -> None:
        """Add to the gradient of every parameter that the losses depend on.

        losses: scalars by name; `penalty` is added unweighted. With several processes the parts of this one, whose
            gradients are summed over the processes before they are compared
        parameters: all trainable parameters
        shared: the last parameters that all losses share
        """


class GradNorm(Balancer):
    """Weights under which all losses train at similar rates (Chen et al., "GradNorm: Gradient Normalization for
    Adaptive Loss Balancing in Deep Multitask Networks", 2018).

        G_i = w_i |d L_i / d W| ;  r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0))
        w_i <- w_i - step * sign(G_i - mean_j G_j r_i^alpha) |d L_i / d W| / mean_j |d L_j / d W|

    then scaled so that sum_i w_i = n. The division makes the step independent of the scale of the losses; the paper
    uses the learning rate of the weights for this. W are the last shared parameters. L_i(0) is the first observed loss.
    The weight of a loss does not change on batches without a row for that loss.
    """

    weights: Tensor
    initial_losses: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        self.register_buffer("weights", torch.ones(len(self.names)))
        self.register_buffer("initial_losses", torch.zeros(len(self.names)))

    def backward(
        self,
        losses: Mapping[str, Tensor],
        parameters: Sequence[nn.Parameter],
        shared: Sequence[nn.Parameter],
        world: World = SINGLE,
    ) -> None:
        total = losses.get("penalty", self.weights.new_zeros(()))
        norms: dict[int, Tensor] = {}
        rates: dict[int, Tensor] = {}
        for place, name in enumerate(self.names):
            loss = losses.get(name)
            if loss is None or not world.total(loss.requires_grad):
                continue
            total = total + self.weights[place] * loss
            found = _gradients(loss, list(shared), world)
            known = [gradient for gradient in found if gradient is not None]
            value = world.sum(loss.detach())
            if not known or float(value) <= 0:
                continue
            if float(self.initial_losses[place]) == 0:
                self.initial_losses[place] = value
            norms[place] = nn.utils.get_total_norm(known)
            rates[place] = value / self.initial_losses[place]
        total.backward()  # type: ignore[no-untyped-call]
        sum_gradients(parameters, world)
        if len(norms) > 1:
            self._move(norms, rates)

    def _move(self, norms: dict[int, Tensor], rates: dict[int, Tensor]) -> None:
        places = list(norms)
        norm = torch.stack([norms[place] for place in places])
        rate = torch.stack([rates[place] for place in places])
        weighted = self.weights[places] * norm
        aim = weighted.mean() * (rate / rate.mean()) ** GRADNORM_ALPHA
        moved = self.weights[places] - GRADNORM_STEP * torch.sign(weighted - aim) * norm / norm.mean().clamp_min(1e-12)
        self.weights[places] = moved.clamp_min(1e-3)
        self.weights.mul_(len(self.names) / self.weights.sum())


class PCGrad(Balancer):
    """Projects conflicting gradients onto each other's normal planes (Yu et al., "Gradient Surgery for Multi-Task
    Learning", 2020).

        for each i, over the other losses j in random order:  if g_i . g_j < 0:  g_i <- g_i - (g_i . g_j / |g_j|^2) g_j
        g = sum_i g_i

    The sum covers parameters that receive a gradient from several losses. Parameters of only one loss keep its
    gradient. Each loss has its own backward pass, so a step costs about one backward pass per loss.
    """

    def backward(
        self,
        losses: Mapping[str, Tensor],
        parameters: Sequence[nn.Parameter],
        shared: Sequence[nn.Parameter],
        world: World = SINGLE,
    ) -> None:
        own = {name: loss for name, loss in losses.items() if name != "penalty" and world.total(loss.requires_grad)}
        gradients = {name: _gradients(loss, parameters, world) for name, loss in own.items()}
        known = [[one for one in found if one is not None] for found in zip(*gradients.values(), strict=True)]
        several = [len(found) > 1 for found in known]
        flat = {name: _flat(found, parameters, several) for name, found in gradients.items()}
        generator = world.generator()
        sums = [self._without_conflicts(name, flat, generator) for name in flat]
        together = torch.stack(sums).sum(0) if sums else torch.zeros(0)
        start = 0
        for parameter, found in zip(parameters, known, strict=True) if known else ():
            if len(found) > 1:
                value = together[start : start + parameter.numel()].view_as(parameter)
                start += parameter.numel()
            elif found:
                value = found[0]
            else:
                continue
            parameter.grad = value.to(parameter.dtype) if parameter.grad is None else parameter.grad + value
        if "penalty" in losses and world.total(losses["penalty"].requires_grad):
            for parameter, added in zip(parameters, _gradients(losses["penalty"], parameters, world), strict=True):
                if added is not None:
                    parameter.grad = added if parameter.grad is None else parameter.grad + added

    @staticmethod
    def _without_conflicts(name: str, flat: dict[str, Tensor], generator: torch.Generator | None) -> Tensor:
        others = [other for other in flat if other != name]
        found = flat[name]
        for place in torch.randperm(len(others), generator=generator).tolist():
            other = flat[others[place]]
            product = found @ other
            if float(product) < 0:
                found = found - product / (other @ other).clamp_min(1e-12) * other
        return found


def _gradients(loss: Tensor, parameters: Sequence[nn.Parameter], world: World) -> list[Tensor | None]:
    """The gradient of a loss with respect to each parameter, summed over the processes; None for a parameter on which
    it does not depend."""
    found: Sequence[Tensor | None] = [None] * len(parameters)
    if loss.requires_grad:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return sum_tensors(found, parameters, world)


def _flat(found: Sequence[Tensor | None], parameters: Sequence[nn.Parameter], selected: Sequence[bool]) -> Tensor:
    """The gradients of the selected parameters as one vector; 0 for parameters without a gradient."""
    parts = [
        parameter.new_zeros(parameter.numel(), dtype=torch.float32) if gradient is None else gradient.float().flatten()
        for gradient, parameter, keep in zip(found, parameters, selected, strict=True)
        if keep
    ]
    return torch.cat(parts) if parts else torch.zeros(0)
