"""The optimiser and its schedule."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from polymodal.nn.decoders.base import Decoder
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import Objective
from polymodal.recipe.training import TrainingOptions


def freeze_parts(network: Network, options: TrainingOptions) -> None:
    """Stop the gradient of the parts that the recipe freezes."""
    parts = network.parts()
    for path, part in options.param_groups.items():
        if part.freeze:
            parts[path].requires_grad_(False)


def make_optimizer(network: Network, loss: nn.Module, options: TrainingOptions) -> AdamW:
    """Fused AdamW. Matrices decay, vectors do not; a parameter has the rate of the innermost part that names it, times
    the factor that its encoder or decoder sets (`Encoder.lr_multipliers`)."""
    parts = network.parts()
    factor_of: dict[int, float] = {}
    for encoder in network.encoders().values():
        factor_of |= {id(parameter): factor for parameter, factor in encoder.lr_multipliers().items()}
    parts_with_rates: list[Decoder | Objective] = [*network.all_decoders(), *network.objectives.values()]
    for part in parts_with_rates:
        factor_of |= {id(parameter): factor for parameter, factor in part.lr_multipliers().items()}
    rate_of: dict[int, float] = {}
    for path in sorted(options.param_groups, key=len):  # inner parts come later and win
        for parameter in parts[path].parameters():
            rate_of[id(parameter)] = options.param_groups[path].lr_multiplier
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in [*network.parameters(), *loss.parameters()]:
        if parameter.requires_grad:
            rate = rate_of.get(id(parameter), 1.0) * factor_of.get(id(parameter), 1.0)
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "lr": options.learning_rate * rate,
                "weight_decay": options.weight_decay if decays else 0.0,
            }
            for (rate, decays), parameters in groups.items()
        ],
        fused=True,
    )


def shared_parameters(network: Network) -> list[nn.Parameter]:
    """The last parameters that all losses have in common: those of the fusion, or, where it has none that learn, of the
    projections and norms before it."""
    found = [parameter for parameter in network.fusion.parameters() if parameter.requires_grad]
    if found and network.outputs:
        return found
    towers = network.towers.values()
    before = [parameter for tower in towers for part in (tower.project, tower.norm) for parameter in part.parameters()]
    return [parameter for parameter in before if parameter.requires_grad]


def make_schedule(optimizer: AdamW, steps: int, warmup: float, *, completed_steps: int = 0) -> LambdaLR:
    """Linear warm-up over a share of `steps`, then half a cosine down to 0 (Loshchilov & Hutter, SGDR, 2017).

    done: steps that were taken before, by a run that is resumed
    """
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

    return LambdaLR(optimizer, factor, last_epoch=completed_steps - 1)


def clip_gradient(parameters: list[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradient so that its norm is at most `largest`; return the norm it had."""
    return nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True)
