"""Random augmentations of audio in training, for whole batches at once.

Every function takes `values [items, channels, samples]` float32 with `length [items]` real samples, draws from torch's
global generator and returns a new tensor. Samples beyond an item's length stay exactly zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.core.types import length_mask


def random_gain(values: Tensor, decibels: float) -> Tensor:
    """Change the volume of each item by up to `decibels`, uniformly drawn, but never above full scale."""
    factor = 10 ** (decibels * (2 * torch.rand(len(values)) - 1) / 20)
    peak = torch.maximum(values.amax((1, 2)), -values.amin((1, 2))).clamp_min(1e-6)
    return values * torch.minimum(factor.to(values), (1 / peak).clamp_min(1)).view(-1, 1, 1)


def add_noise(values: Tensor, length: Tensor, lowest: float) -> Tensor:
    """White noise at a signal-to-noise ratio from `lowest` to `lowest` + 20 dB, uniformly drawn for each item.

    Powers are means over the real samples. Digital silence stays unchanged.
    """
    ratio = lowest + 20 * torch.rand(len(values))
    power = values.square().sum((1, 2)) / (length.clamp_min(1) * values.shape[1])
    level = (power * (10 ** (-ratio / 10)).to(values)).sqrt().view(-1, 1, 1)
    noise = torch.randn(values.shape, dtype=values.dtype).to(values.device)
    return noise.mul_(level).mul_(length_mask(length, values.shape[2]).unsqueeze(1)).add_(values)


def time_shift(values: Tensor, length: Tensor, share: float) -> Tensor:
    """Shift each item in time by up to the fraction `share` of its length. Zeros fill the gap, and the other end is
    lost."""
    steps = (share * (2 * torch.rand(len(values)) - 1) * length.cpu()).round().long().tolist()
    moved = torch.zeros_like(values)
    for row, source, count, step in zip(
        moved, values, length.tolist(), steps, strict=True
    ):  # cheaper than an index for every sample
        first, last = max(0, step), min(count, count + step)
        row[:, first:last] = source[:, first - step : last - step]
    return moved
