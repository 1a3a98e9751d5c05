"""SpecAugment: parts of a spectrogram hidden in training."""

from __future__ import annotations

import torch
from torch import Tensor

#: No time mask is wider than this share of its clip, so that short clips keep most of their sound.
LARGEST_SHARE = 0.2


def spec_augment(
    mel: Tensor, frames: Tensor, *, times: int, time_width: float, bands: int, band_width: float
) -> Tensor:
    """`mel [items, channels, frames, bands]` with random stretches of time and bands set to zero (Park et al.,
    "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", 2019).

    Each item draws its own masks, from torch's random state; a mask covers all channels. Its width is uniform from
    zero to the largest, and so is its place among those where it fits.

    frames: `[items]`, the real frames of each item
    times, bands: how many masks there are along each axis
    time_width, band_width: the largest width of one, in frames and in bands
    """
    across = torch.full_like(frames, mel.shape[3])
    hidden = _masks(mel.shape[2], frames, times, torch.clamp(frames * LARGEST_SHARE, max=time_width)).unsqueeze(2)
    hidden = hidden | _masks(mel.shape[3], across, bands, torch.clamp(across.float(), max=band_width)).unsqueeze(1)
    return mel.masked_fill(hidden.unsqueeze(1), 0.0)


def _masks(size: int, length: Tensor, count: int, largest: Tensor) -> Tensor:
    """`[items, size]` bool, True within one of `count` stretches of each item's `length`, at most `largest` wide."""
    drawn = torch.rand(2, len(length), count, device=length.device)
    width = (drawn[0] * (largest + 1).unsqueeze(1)).floor()
    start = (drawn[1] * (length.unsqueeze(1) - width + 1)).floor()
    place = torch.arange(size, device=length.device)
    return ((place >= start.unsqueeze(-1)) & (place < (start + width).unsqueeze(-1))).any(1)
