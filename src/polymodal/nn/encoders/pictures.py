"""What image encoders share: bytes to numbers, and feature maps to tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def to_unit(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes 0 to 255 as numbers from -1 to 1 in `dtype`; the memory layout stays."""
    return pixels.to(dtype) / 127.5 - 1


def all_real(features: Tensor) -> Tensor:
    """The mask `[items, length]` of tokens that are never padding."""
    return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)


def channels_last(module: nn.Module) -> None:
    """Lay out the module's convolutions as the pixels are laid out, which is several times faster."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
