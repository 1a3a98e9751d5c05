"""Random augmentations of time series in training, for whole batches at once."""

from __future__ import annotations

import torch
from torch import Tensor

Data = dict[str, Tensor]


def jitter(data: Data, strength: float) -> Data:
    """Add Gaussian noise of standard deviation `strength` to every observed value; `values` are normalized."""
    noise = strength * torch.randn_like(data["values"])
    return {**data, "values": data["values"] + noise * data["observed"]}


def gain(data: Data, strength: float) -> Data:
    """Multiply each channel of each item by a factor from `1 - strength` to `1 + strength`."""
    items, _, channels = data["values"].shape
    factor = 1 + strength * (2 * torch.rand(items, 1, channels) - 1)
    return {**data, "values": data["values"] * factor.to(data["values"])}


def time_mask(data: Data, share: float) -> Data:
    """Make a segment of up to the fraction `share` of each item's steps a gap in all channels."""
    length = data["length"]
    size = (torch.rand(len(length)) * share * length).long()
    start = (torch.rand(len(length)) * (length - size + 1)).long().unsqueeze(1)
    step = torch.arange(data["values"].shape[1])
    kept = ((step < start) | (step >= start + size.unsqueeze(1))).unsqueeze(-1).to(data["values"])
    return {**data, "values": data["values"] * kept, "observed": data["observed"] * kept}


def random_crop(data: Data, share: float) -> Data:
    """Crop up to the fraction `share` of each item's steps, at its start and its end. The remaining steps keep their
    times."""
    length = data["length"]
    kept = length - (torch.rand(len(length)) * share * length).long()
    start = (torch.rand(len(length)) * (length - kept + 1)).long().unsqueeze(1)
    longest = int(kept.max()) if len(kept) else data["values"].shape[1]
    step = torch.arange(longest)
    real = step < kept.unsqueeze(1)
    index = torch.where(real, start + step, torch.zeros_like(start))
    changed: Data = {"length": kept}
    for name in ("values", "observed", "times"):
        source = data[name]
        taken = source.gather(1, index.view(*index.shape, *[1] * (source.ndim - 2)).expand(-1, -1, *source.shape[2:]))
        changed[name] = taken * real.view(*real.shape, *[1] * (source.ndim - 2))
    return {**data, **changed}
