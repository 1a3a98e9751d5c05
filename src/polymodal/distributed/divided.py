"""Tensors of which each process may hold a part (`DTensor`). A tensor that is not divided is returned as it is."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor


def is_divided(tensor: Tensor) -> bool:
    """Whether this process holds a part of the tensor. Without sharding, `torch.distributed` is not imported.

    Example:
        >>> import torch
        >>> is_divided(torch.zeros(2))
        False
    """
    return hasattr(tensor, "full_tensor")


def whole_tensor(tensor: Tensor) -> Tensor:
    """The whole tensor. All processes that hold a part must call this in the same order."""
    return cast(Any, tensor).full_tensor() if is_divided(tensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """The part of this process, which shares its memory with the tensor."""
    return cast(Any, tensor).to_local() if is_divided(tensor) else tensor


def divided_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor, divided in the same way as `pattern`. Nothing is exchanged."""
    if is_divided(tensor) or not is_divided(pattern):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = pattern.device_mesh, pattern.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(pattern.device), mesh, placements, src_data_rank=None)
