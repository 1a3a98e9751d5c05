"""Random augmentations of images, one draw per image, for whole batches at once.

Every function takes and returns `pixels [n, 3, height, width]` uint8 in channels-last memory, draws from torch's global
generator, and never changes its argument.
"""

from __future__ import annotations

import torch
from torch import Tensor


def translate(pixels: Tensor, share: float) -> Tensor:
    """Translate each image by up to the fraction `share` of its height and width, in whole pixels (at least one).
    Its edge fills the gap."""
    items, _, height, width = pixels.shape
    row = (torch.arange(height) + _whole(items, share, height)).clamp(0, height - 1)
    column = (torch.arange(width) + _whole(items, share, width)).clamp(0, width - 1)
    start = torch.arange(items)[:, None, None] * height
    index = (start + row[:, :, None]) * width + column[:, None, :]
    flat = pixels.permute(0, 2, 3, 1).reshape(-1, 3)
    moved = flat.index_select(0, index.flatten().to(pixels.device))
    return moved.view(items, height, width, 3).permute(0, 3, 1, 2)


def _whole(items: int, share: float, size: int) -> Tensor:
    most = max(1, round(share * size))
    return torch.randint(-most, most + 1, (items, 1))


def horizontal_flip(pixels: Tensor) -> Tensor:
    """Mirror each image horizontally with probability 0.5."""
    chosen = (torch.rand(len(pixels)) < 0.5).to(pixels.device)
    return torch.where(chosen[:, None, None, None], pixels.flip(3), pixels)


def brightness(pixels: Tensor, strength: float) -> Tensor:
    """Multiply each image by a factor from `1 - strength` to `1 + strength`."""
    return _to_bytes(pixels.float() * _factor(pixels, strength))


def contrast(pixels: Tensor, strength: float) -> Tensor:
    """Multiply each image's difference from its mean by a factor from `1 - strength` to `1 + strength`."""
    values = pixels.float()
    mean = values.mean(dim=(1, 2, 3), keepdim=True)
    return _to_bytes(mean + (values - mean) * _factor(pixels, strength))


def _factor(pixels: Tensor, strength: float) -> Tensor:
    return (1 + strength * (2 * torch.rand(len(pixels), 1, 1, 1) - 1)).to(pixels.device)


def _to_bytes(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)
