"""Random augmentations of videos in training, for whole batches at once."""

from __future__ import annotations

import torch
from torch import Tensor


def translate(pixels: Tensor, share: float) -> Tensor:
    """Translate each video of `pixels [items, frames, 3, height, width]` by up to the fraction `share` of its height
    and width, in whole pixels (at least one), all frames alike. Their edges fill the gap."""
    items, frames, _, height, width = pixels.shape
    row = _moved(items, height, share)
    column = _moved(items, width, share)
    start = torch.arange(items * frames).view(items, frames, 1, 1) * height
    index = (start + row.view(items, 1, height, 1)) * width + column.view(items, 1, 1, width)
    flat = pixels.permute(0, 1, 3, 4, 2).reshape(-1, 3)
    moved = flat.index_select(0, index.flatten().to(pixels.device))
    return moved.view(items, frames, height, width, 3).permute(0, 1, 4, 2, 3)


def horizontal_flip(pixels: Tensor) -> Tensor:
    """Mirror each video horizontally with probability 0.5."""
    chosen = (torch.rand(len(pixels)) < 0.5).to(pixels.device)
    return torch.where(chosen[:, None, None, None, None], pixels.flip(4), pixels)


def frame_dropout(data: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Drop each frame with probability `share`, but never all frames of a video. The remaining frames are moved
    together."""
    length = data["length"]
    longest = data["pixels"].shape[1]
    real = torch.arange(longest, device=length.device) < length[:, None]
    chance = torch.rand(real.shape).to(length.device)
    kept = real & ((chance >= share) | (chance == chance.masked_fill(~real, -1).amax(1, keepdim=True)))
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    left = kept.sum(1)
    order = order[:, : int(left.max())]
    rows = torch.arange(len(order), device=length.device)[:, None]
    gone = torch.arange(order.shape[1], device=length.device) >= left[:, None]
    changed = {name: data[name][rows, order] for name in ("pixels", "times")}
    return {
        "pixels": changed["pixels"].masked_fill(gone[:, :, None, None, None], 0),
        "times": changed["times"].masked_fill(gone, 0),
        "length": left,
    }


def _moved(items: int, size: int, share: float) -> Tensor:
    """The source index of each row or column, for each item, `[items, size]`."""
    most = max(1, round(share * size))
    return (torch.arange(size) + torch.randint(-most, most + 1, (items, 1))).clamp(0, size - 1)
