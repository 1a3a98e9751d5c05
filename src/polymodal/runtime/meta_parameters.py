"""Parameters without memory: a large network is built, and its parameters get values one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from polymodal.runtime.compute import CPU


@contextmanager
def meta_parameters() -> Iterator[None]:
    """Parameters of modules that are built in the block are on the meta device: they have a shape and no memory.
    Buffers are as usual.

    Example:
        >>> with meta_parameters():
        ...     layer = torch.nn.BatchNorm1d(3)
        >>> layer.weight.device.type, layer.running_var.tolist()
        ('meta', [1.0, 1.0, 1.0])
    """
    ordinary = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # a parameter that modules share stays one
            parameter = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        ordinary(module, name, parameter)

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = ordinary  # type: ignore[method-assign]


def fill_meta_parameters(network: nn.Module, fill: Callable[[str, nn.Parameter], None]) -> None:
    """Give the parameters on the meta device memory on the CPU.

    fill: gives a parameter with a name its values
    """
    made: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                if id(parameter) not in made:
                    made[id(parameter)] = on_cpu(parameter)
                    fill(name, made[id(parameter)])
                module._parameters[name] = made[id(parameter)]


def on_cpu(parameter: nn.Parameter) -> nn.Parameter:
    """A parameter with the shape and the dtype of another, in memory whose values are not defined."""
    return nn.Parameter(torch.empty_like(parameter, device=CPU), parameter.requires_grad)
