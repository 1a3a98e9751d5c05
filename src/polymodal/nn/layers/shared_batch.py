"""Layers whose output for a row depends on the other rows of the batch, with several processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from polymodal.distributed.world import SINGLE, World


class SharesBatch:
    """A layer that computes statistics over the rows of a batch in training, with several processes those of all.

    world: the processes; set by `share_statistics`
    has_rows: False if the only row or item of this process is a substitute for none
    """

    world: World = SINGLE
    has_rows: bool = True


def has_batch_statistics(module: nn.Module) -> bool:
    """Whether training `module` computes statistics over the rows of a batch."""
    return any(
        isinstance(one, SharesBatch | _BatchNorm) and any(own.requires_grad for own in one.parameters())
        for one in module.modules()
    )


@contextmanager
def share_statistics(network: nn.Module, world: World) -> Iterator[None]:
    """In the block, the layers of `network` in training mode use the statistics of the rows of all processes, as one
    process with all rows does. For one process, nothing changes.

    Batch normalization (Ioffe and Szegedy, 2015) sums over the processes, with its gradient.
    """
    if world.size == 1:
        yield
        return
    changed: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, SharesBatch):
            module.world = world
            changed.append(module)
        elif isinstance(module, _BatchNorm):
            module.forward = partial(_batch_norm, module, world)  # type: ignore[method-assign]
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.__dict__["world" if isinstance(module, SharesBatch) else "forward"]


@contextmanager
def without_rows(module: nn.Module) -> Iterator[None]:
    """In the block, the rows that the layers of `module` see do not count."""
    layers: list[Any] = [one for one in module.modules() if isinstance(one, SharesBatch | _BatchNorm)]
    before = [getattr(one, "has_rows", True) for one in layers]
    for one in layers:
        one.has_rows = False
    try:
        yield
    finally:
        for one, value in zip(layers, before, strict=True):
            one.has_rows = value


def _batch_norm(module: _BatchNorm, world: World, x: Tensor) -> Tensor:
    """`module(x)` for `x [items, channels, ...]`, in training with the mean and variance over the items of all
    processes."""
    if not module.training:
        return type(module).forward(module, x)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    values, counted = x.float(), float(getattr(module, "has_rows", True))
    count = max(1.0, world.total(counted * (values.numel() // x.shape[1])))
    mean = world.sum_with_gradient(counted * values.sum(axes)) / count
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    centered = values - mean.view(shape)
    variance = world.sum_with_gradient(counted * centered.square().sum(axes)) / count
    _update_running_statistics(module, mean.detach(), variance.detach() * count / max(1.0, count - 1))
    scaled = centered * (variance + module.eps).rsqrt().view(shape)
    if module.affine:
        scaled = scaled * module.weight.view(shape) + module.bias.view(shape)
    return scaled.to(x.dtype)


def _update_running_statistics(module: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if not module.track_running_stats or module.running_mean is None or module.running_var is None:
        return
    with torch.no_grad():
        momentum = module.momentum
        if module.num_batches_tracked is not None:
            module.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1 / float(module.num_batches_tracked)
        module.running_mean.lerp_(mean.to(module.running_mean.dtype), momentum or 0.0)
        module.running_var.lerp_(variance.to(module.running_var.dtype), momentum or 0.0)
