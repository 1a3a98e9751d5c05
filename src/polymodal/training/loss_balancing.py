"""Balance between the losses of several outputs and objectives, by what their gradients do to the shared parts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

#: How strongly GradNorm slows down losses that have fallen fast (alpha of the paper).
GRADNORM_ALPHA = 1.5
#: The step by which GradNorm's weights move towards their aim.
GRADNORM_STEP = 0.025


class Balancer(nn.Module):
    """Turns the losses of a batch into gradients. What it learns is in its buffers, so that a run can be resumed."""

    @abstractmethod
    def backward(
        self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], shared: Sequence[nn.Parameter]
    ) -> None:
        """Add to the gradient of every parameter that the losses depend on.

        losses: scalars by name; one named `penalty` belongs to all of them and is taken as it is
        parameters: all that learn
        shared: the last parameters that all losses have in common
        """


class GradNorm(Balancer):
    """Weights under which all losses train at similar rates (Chen et al., "GradNorm: Gradient Normalization for
    Adaptive Loss Balancing in Deep Multitask Networks", 2018).

        G_i = w_i |d L_i / d W| ;  r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0))
        w_i <- w_i - step * sign(G_i - mean_j G_j r_i^alpha) |d L_i / d W| / mean_j |d L_j / d W|

    then scaled so that sum_i w_i = n. The division makes the step independent of the scale of the losses; the paper
    leaves that to the learning rate of its weights. W are the last shared parameters, L_i(0) is the first loss seen. A
    loss that no row of a batch has leaves its weight as it is.
    """

    weights: Tensor
    first: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        self.register_buffer("weights", torch.ones(len(self.names)))
        self.register_buffer("first", torch.zeros(len(self.names)))

    def backward(
        self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], shared: Sequence[nn.Parameter]
    ) -> None:
        total = losses.get("penalty", self.weights.new_zeros(()))
        norms: dict[int, Tensor] = {}
        rates: dict[int, Tensor] = {}
        for place, name in enumerate(self.names):
            loss = losses.get(name)
            if loss is None or not loss.requires_grad:
                continue
            total = total + self.weights[place] * loss
            found = torch.autograd.grad(loss, list(shared), retain_graph=True, allow_unused=True)
            known = [gradient for gradient in found if gradient is not None]
            if not known or float(loss.detach()) <= 0:
                continue
            if float(self.first[place]) == 0:
                self.first[place] = loss.detach()
            norms[place] = nn.utils.get_total_norm(known)
            rates[place] = loss.detach() / self.first[place]
        total.backward()  # type: ignore[no-untyped-call]
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
    """Gradients that conflict lose what conflicts (Yu et al., "Gradient Surgery for Multi-Task Learning", 2020).

        for each i, over the other losses j in random order:  if g_i . g_j < 0:  g_i <- g_i - (g_i . g_j / |g_j|^2) g_j
        g = sum_i g_i

    over the parameters that several losses reach; those of one loss alone have its gradient. Every loss takes a way
    back of its own, so a step costs about as many of them as there are losses.
    """

    def backward(
        self, losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], shared: Sequence[nn.Parameter]
    ) -> None:
        own = {name: loss for name, loss in losses.items() if name != "penalty" and loss.requires_grad}
        gradients = {
            name: torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            for name, loss in own.items()
        }
        known = [[one for one in found if one is not None] for found in zip(*gradients.values(), strict=True)]
        several = [len(found) > 1 for found in known]
        flat = {name: _flat(found, parameters, several) for name, found in gradients.items()}
        sums = [self._without_conflicts(name, flat) for name in flat]
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
        if "penalty" in losses and losses["penalty"].requires_grad:
            losses["penalty"].backward()  # type: ignore[no-untyped-call]

    @staticmethod
    def _without_conflicts(name: str, flat: dict[str, Tensor]) -> Tensor:
        others = [other for other in flat if other != name]
        found = flat[name]
        for place in torch.randperm(len(others)).tolist():
            other = flat[others[place]]
            product = found @ other
            if float(product) < 0:
                found = found - product / (other @ other).clamp_min(1e-12) * other
        return found


def _flat(found: Sequence[Tensor | None], parameters: Sequence[nn.Parameter], taken: Sequence[bool]) -> Tensor:
    """The gradients of the taken parameters end to end, 0 where there is none."""
    parts = [
        parameter.new_zeros(parameter.numel(), dtype=torch.float32) if gradient is None else gradient.float().flatten()
        for gradient, parameter, take in zip(found, parameters, taken, strict=True)
        if take
    ]
    return torch.cat(parts) if parts else torch.zeros(0)
