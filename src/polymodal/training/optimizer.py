"""The optimizer, its parameter groups, and gradient clipping."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import AdamW

from polymodal.distributed.divided import is_divided, own_part, whole_tensor
from polymodal.nn.decoders.base import Decoder
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import Objective
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.compute import ComputeConfig, has_fused_optimizer, network_device


class EagerAdamW(AdamW):
    """AdamW without the wrappers of its methods that serve `torch.compile`: they import the compiler, which takes more
    than a second of each process that trains, and nothing here is compiled."""

    add_param_group = inspect.unwrap(AdamW.add_param_group)
    zero_grad = inspect.unwrap(AdamW.zero_grad)
    state_dict = inspect.unwrap(AdamW.state_dict)
    load_state_dict = inspect.unwrap(AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(AdamW.step))


def freeze_parts(network: Network, options: TrainingOptions) -> None:
    """Freeze the modules that `training.param_groups` freezes."""
    parts = network.modules_by_path()
    for path, part in options.param_groups.items():
        if part.freeze:
            parts[path].requires_grad_(False)


def make_optimizer(network: Network, loss: nn.Module, options: TrainingOptions) -> AdamW:
    """AdamW, fused where the device has it. Weight decay applies to matrices, not to vectors.

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
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for parameter in [*network.parameters(), *loss.parameters()]:
        if parameter.requires_grad:
            rate = rate_of.get(id(parameter), 1.0) * factor_of.get(id(parameter), 1.0)
            groups.setdefault((rate, parameter.ndim > 1, is_divided(parameter)), []).append(parameter)
    return EagerAdamW(
        [
            {
                "params": parameters,
                "lr": options.learning_rate * rate,
                "weight_decay": options.weight_decay if decays else 0.0,
            }
            for (rate, decays, _), parameters in groups.items()
        ],
        fused=has_fused_optimizer(network_device(network)),
    )


def make_scaler(compute: ComputeConfig, state: Mapping[str, Any] | None = None) -> GradScaler:
    """The factor of the gradients of fp16, which would be rounded to 0 (Micikevicius et al., "Mixed Precision
    Training", 2018); the identity for other precisions.

    state: the state of the scaler of an interrupted run
    """
    scaler = GradScaler(torch.device(compute.device).type, enabled=compute.precision == "fp16")
    if state:
        scaler.load_state_dict(dict(state))
    return scaler


def shared_parameters(network: Network) -> list[nn.Parameter]:
    """The last parameters that all losses share: those of the fusion, or, if it has no trainable parameters, of the
    projections and norms before it."""
    found = [parameter for parameter in network.fusion.parameters() if parameter.requires_grad]
    if found and network.outputs:
        return found
    towers = network.towers.values()
    before = [parameter for tower in towers for part in (tower.project, tower.norm) for parameter in part.parameters()]
    return [parameter for parameter in before if parameter.requires_grad]


def clip_gradient(parameters: list[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale the gradient to a norm of at most `max_norm`; return the norm before clipping."""
    if not any(map(is_divided, parameters)):
        return nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = gradient_norm(gradients)
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        own_part(gradient).mul_(factor)
    return norm


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together. Processes that divide them must all call this."""
    divided = [one for one in gradients if is_divided(one)]
    others = [one for one in gradients if not is_divided(one)]
    if not divided:
        return nn.utils.get_total_norm(others)
    norm = whole_tensor(nn.utils.get_total_norm(divided))
    return torch.hypot(norm, nn.utils.get_total_norm(others)) if others else norm


def parameter_names(network: nn.Module, loss: nn.Module) -> dict[Tensor, str]:
    """The name of each parameter of a run."""
    own = {f"loss.{name}": one for name, one in loss.named_parameters()}
    return {one: name for name, one in [*network.named_parameters(), *own.items()]}
