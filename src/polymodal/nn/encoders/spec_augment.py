"""SpecAugment: random time and frequency masks for training."""

from __future__ import annotations

import torch
from torch import Tensor

#: Maximum width of a time mask as a fraction of its item, so that short items keep most of their content.
MAX_TIME_RATIO = 0.2


def spec_augment(
    mel: Tensor,
    frames: Tensor,
    *,
    num_time_masks: int,
    time_mask_width: float,
    num_freq_masks: int,
    freq_mask_width: float,
) -> Tensor:
    """`mel [items, channels, frames, bands]` with random ranges of frames and of bands set to zero (Park et al.,
    "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", 2019).

    Masks are drawn for each item from the random state of torch; a mask covers all channels. Its width is uniform
    between zero and the maximum, and its start is uniform over all positions at which it fits.

    frames: `[items]`, the number of real frames of each item
    num_time_masks, num_freq_masks: number of masks along each axis
    time_mask_width, freq_mask_width: maximum width of a mask, in frames and in bands
    """
    num_bands = torch.full_like(frames, mel.shape[3])
    hidden = _masks(
        mel.shape[2], frames, num_time_masks, torch.clamp(frames * MAX_TIME_RATIO, max=time_mask_width)
    ).unsqueeze(2)
    hidden = hidden | _masks(
        mel.shape[3], num_bands, num_freq_masks, torch.clamp(num_bands.float(), max=freq_mask_width)
    ).unsqueeze(1)
    return mel.masked_fill(hidden.unsqueeze(1), 0.0)


def _masks(size: int, length: Tensor, count: int, max_width: Tensor) -> Tensor:
    """`[items, size]` bool, True within one of `count` random ranges of at most `max_width` entries per item."""
    uniform = torch.rand(2, len(length), count, device=length.device)
    width = (uniform[0] * (max_width + 1).unsqueeze(1)).floor()
    start = (uniform[1] * (length.unsqueeze(1) - width + 1)).floor()
    position = torch.arange(size, device=length.device)
    return ((position >= start.unsqueeze(-1)) & (position < (start + width).unsqueeze(-1))).any(1)
