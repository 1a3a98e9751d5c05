"""Which places of padded items hold something."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(length: Tensor, longest: int) -> Tensor:
    """`[items, longest]` bool: True at the places before each item's end; `length [items]`, an integer or a number."""
    return torch.arange(longest, device=length.device) < length.unsqueeze(1)
