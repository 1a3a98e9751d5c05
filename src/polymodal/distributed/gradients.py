"""Sums of gradients over the processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polymodal.distributed.world import World

#: Maximum number of values that are summed at once. Larger sums need more memory, smaller ones more exchanges.
MAX_VALUES = 8 * 2**20


def sum_gradients(parameters: Sequence[nn.Parameter], world: World) -> None:
    """Sum the gradient of each parameter over the processes. A parameter without a gradient in all processes stays
    without one, so that the optimizer leaves it out; in a process alone, the missing gradient is 0."""
    if world.size == 1:
        return
    summed = sum_tensors([parameter.grad for parameter in parameters], parameters, world)
    for parameter, gradient in zip(parameters, summed, strict=True):
        parameter.grad = gradient


def sum_tensors(
    tensors: Sequence[Tensor | None], parameters: Sequence[nn.Parameter], world: World
) -> list[Tensor | None]:
    """The sum over the processes of a tensor for each parameter; None if all processes have None."""
    if world.size == 1 or not parameters:
        return list(tensors)
    flags = torch.tensor([float(one is not None) for one in tensors])
    known = world.sum(flags).tolist()
    used = [index for index, count in enumerate(known) if count]
    found: list[Tensor | None] = [None] * len(tensors)
    for part in _parts(used, parameters):
        own = [tensors[index] for index in part]
        flat = torch.cat(
            [
                (torch.zeros_like(parameters[index]) if one is None else one).detach().reshape(-1)
                for index, one in zip(part, own, strict=True)
            ]
        )
        sizes = [parameters[index].numel() for index in part]
        for index, summed in zip(part, torch.split(world.sum(flat), sizes), strict=True):
            found[index] = torch.empty_like(parameters[index]).copy_(summed.view(parameters[index].shape))
    return found


def _parts(indices: Sequence[int], parameters: Sequence[nn.Parameter]) -> list[list[int]]:
    """The indices in parts of one dtype and device and at most `MAX_VALUES` values, or a single larger parameter."""
    parts: list[list[int]] = []
    values, kind = 0, None
    for index in indices:
        parameter = parameters[index]
        if not parts or kind != (parameter.dtype, parameter.device) or values + parameter.numel() > MAX_VALUES:
            parts.append([])
            values, kind = 0, (parameter.dtype, parameter.device)
        parts[-1].append(index)
        values += parameter.numel()
    return parts
