"""Padded sequences of different lengths."""

from __future__ import annotations

import torch
from torch import Tensor


def real_positions(data: dict[str, Tensor]) -> Tensor:
    """`[items, length]` bool of `values [items, length]`: True where a position is within its `length`."""
    return torch.arange(data["values"].shape[1], device=data["length"].device) < data["length"].unsqueeze(1)


def reverse(x: Tensor, length: Tensor) -> Tensor:
    """Each sequence of `x [items, length, width]` back to front within its own length; its padding stays
    behind.

    The function undoes itself.
    """
    position = torch.arange(x.shape[1], device=x.device)
    last = length.unsqueeze(1)
    source = torch.where(position < last, last - 1 - position, position)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))
