"""The optimizer, its parameter groups, the learning rate schedule, and gradient clipping."""

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
    """Freeze the modules that `training.param_groups` freezes."""
    parts = network.modules_by_path()
    for path, part in options.param_groups.items():
        if part.freeze:
            parts[path].requires_grad_(False)


def make_optimizer(network: Network, loss: nn.Module, options: TrainingOptions) -> AdamW:
    """Fused AdamW. Weight decay applies to matrices, not to vectors.

    The learning rate of a parameter is multiplied by the `lr_multiplier` of the innermost matching entry of
    `training.param_groups`, and by the multiplier of its encoder, decoder or objective (`lr_multipliers`).
    """
    parts = network.modules_by_path()
    factor_of: dict[int, float] = {}
    for encoder in network.encoders().values():
        factor_of |= {id(parameter): factor for parameter, factor in encoder.lr_multipliers().items()}
    parts_with_rates: list[Decoder | Objective] = [*network.all_decoders(), *network.objectives.values()]
    for part in parts_with_rates:
        factor_of |= {id(parameter): factor for parameter, factor in part.lr_multipliers().items()}
    rate_of: dict[int, float] = {}
    for path in sorted(options.param_groups, key=len):  # inner modules come later and override outer ones
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
    """The last parameters that all losses share: those of the fusion, or, if it has no trainable parameters, of the
    projections and norms before it."""
    found = [parameter for parameter in network.fusion.parameters() if parameter.requires_grad]
    if found and network.outputs:
        return found
    towers = network.towers.values()
    before = [parameter for tower in towers for part in (tower.project, tower.norm) for parameter in part.parameters()]
    return [parameter for parameter in before if parameter.requires_grad]


def count_warmup_steps(steps: int, warmup: float) -> int:
    """The number of warmup steps: a fraction of `steps`, at least 1."""
    return max(1, round(steps * warmup))


def make_schedule(optimizer: AdamW, steps: int, warmup: float, *, completed_steps: int = 0) -> LambdaLR:
    """Linear warmup over a fraction of `steps`, then cosine decay to 0 (Loshchilov & Hutter, SGDR, 2017).

    completed_steps: steps that a resumed run has already taken
    """
    warmup_steps = count_warmup_steps(steps, warmup)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))))

    return LambdaLR(optimizer, factor, last_epoch=completed_steps - 1)


def clip_gradient(parameters: list[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradient to a norm of at most `max_norm`; return the norm before clipping."""
    return nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True)
