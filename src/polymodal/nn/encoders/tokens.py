"""Tokens and their masks: all of them real, or fewer by averaging neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.core.types import length_mask


def all_real(features: Tensor) -> Tensor:
    """The mask `[items, length]` of tokens that are never padding."""
    return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)


def average_tokens(features: Tensor, mask: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """At most `most` tokens for each item: its real tokens in runs of neighbours, each run averaged.

    An item with `n` real tokens keeps `k = min(n, most)`: its token `i` (of the real ones, in order) goes into run
    `floor(i k / n)`, so that runs differ by one token at most, and items that are short enough stay as they are. What
    stands at padded places, and how many there are, makes no difference.

    features `[items, length, width]`, mask `[items, length]` -> features `[items, <= most, width]`, zero where they are
    padded, and their mask
    """
    count = mask.sum(dim=1, keepdim=True)
    kept = count.clamp(max=most)
    runs = int(kept.max()) if len(mask) else 0
    run = (mask.cumsum(dim=1) - 1) * kept // count.clamp(min=1)
    chosen = (run[:, None] == torch.arange(runs, device=mask.device)[None, :, None]) & mask[:, None]
    share = chosen.to(features.dtype) / chosen.sum(dim=2, keepdim=True).clamp(min=1)
    averaged = share @ features.masked_fill(~mask[:, :, None], 0)
    return averaged, length_mask(kept[:, 0], runs)
