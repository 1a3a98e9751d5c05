"""Token masks, and pooling of neighboring tokens down to a maximum number."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.core.types import length_mask
from polymodal.runtime.host_reads import can_read


def all_valid_mask(features: Tensor) -> Tensor:
    """The mask `[items, length]` of features without padding: all True."""
    return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)


def average_tokens(features: Tensor, mask: Tensor, max_tokens: int) -> tuple[Tensor, Tensor]:
    """At most `max_tokens` tokens for each item: means of runs of neighboring real tokens.

    An item with `n` real tokens keeps `k = min(n, max_tokens)`. Its real token `i` is averaged into run
    `floor(i k / n)`, so that the lengths of runs differ by at most one. Items that are short enough are unchanged.
    Padding has no effect.

    `features [items, length, width]`, `mask [items, length]` -> features `[items, <= max_tokens, width]`, zero at
    padding, and their mask.

    Example:
        >>> import torch
        >>> features, mask = torch.arange(8.0).view(1, 8, 1), torch.ones(1, 8, dtype=torch.bool)
        >>> average_tokens(features, mask, 2)[0].flatten()
        tensor([1.5000, 5.5000])
    """
    count = mask.sum(dim=1, keepdim=True)
    new_length = count.clamp(max=max_tokens)
    num_runs = min(max_tokens, mask.shape[1])  # on an accelerator, any number that is large enough
    if can_read(mask):
        num_runs = int(new_length.max()) if mask.shape[0] else 0
    run = (mask.cumsum(dim=1) - 1) * new_length // count.clamp(min=1)
    in_run = (run[:, None] == torch.arange(num_runs, device=mask.device)[None, :, None]) & mask[:, None]
    weights = in_run.to(features.dtype) / in_run.sum(dim=2, keepdim=True).clamp(min=1)
    averaged = weights @ features.masked_fill(~mask[:, :, None], 0)
    return averaged, length_mask(new_length[:, 0], num_runs)
