"""Consecutive windows of long items: from items to windows, and from the tokens of windows to tokens of items."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from polymodal.core.types import length_mask


class Windows(NamedTuple):
    """The windows of a batch of items, ordered by item and time: each is a run of consecutive records of its item.

    items: the number of items
    item: `[windows]` int64, the item of each window; every item has one or more
    start, length: `[windows]` int64, its first record and its number of records

    Example:
        >>> import torch
        >>> windows = Windows.split(torch.tensor([3, 5]), 3)
        >>> [column.tolist() for column in windows[1:]]
        [[0, 1, 1], [0, 0, 2], [3, 2, 3]]
        >>> windows.take(torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])).tolist()
        [[1, 2, 3], [4, 5, 0], [6, 7, 8]]
    """

    items: int
    item: Tensor
    start: Tensor
    length: Tensor

    @classmethod
    def split(cls, length: Tensor, size: int) -> Self:
        """Items of `length [items]` records in the least number of windows of at most `size` records. The windows of an
        item have the same length, up to one record, so that none is a short rest."""
        count = ((length + size - 1) // size).clamp_min(1)
        item = torch.arange(len(length), device=length.device).repeat_interleave(count)
        number = _place_in_group(item, count)
        start, end = (length[item] * place // count[item] for place in (number, number + 1))
        return cls(len(length), item, start, end - start)

    @classmethod
    def of_runs(cls, number: Tensor, length: Tensor) -> Self:
        """The windows of items whose records name their window: `number [items, records]` rises from 0 within the first
        `length [items]` records of each item."""
        most = int(number.max()) + 1
        item = torch.arange(len(number), device=number.device).unsqueeze(1).expand_as(number)
        real = length_mask(length, number.shape[1])
        counts = torch.bincount((item * most + number)[real], minlength=len(number) * most).view(len(number), most)
        start = counts.cumsum(1) - counts
        used = counts > 0
        return cls(len(number), used.nonzero()[:, 0], start[used], counts[used])

    @property
    def number(self) -> Tensor:
        """The number of each window within its item, from 0, `[windows]` int64."""
        return _place_in_group(self.item, torch.bincount(self.item, minlength=self.items))

    @property
    def one_per_item(self) -> bool:
        """Whether no item has more than one window, so that windows are items."""
        return len(self.item) == self.items

    def take(self, records: Tensor, dim: int = 1) -> Tensor:
        """The records of each window, `[windows, ...]`, zero after its end, from those of the items, `[items, ...]`.

        dim: the dimension of time
        """
        longest = int(self.length.max())
        if self.one_per_item:
            return records.narrow(dim, 0, longest)
        moved = records.movedim(dim, 1)
        real = length_mask(self.length, longest)
        place = torch.arange(longest, device=real.device) + (self.item * moved.shape[1] + self.start).unsqueeze(1)
        taken = moved.flatten(0, 1).index_select(0, torch.where(real, place, 0).flatten())
        taken = taken.view(len(self.item), longest, *moved.shape[2:])
        taken = taken.masked_fill(~real.view(*real.shape, *[1] * (taken.ndim - 2)), 0)
        return taken.movedim(1, dim).contiguous()

    def join(self, records: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The real records of the windows of each item, one after the other, `[items, records, ...]`, zero after the
        last; and their number, `[items]`.

        records, real: `[windows, records, ...]`, and `[windows, records]` bool
        """
        owner = self.item.unsqueeze(1).expand_as(real)[real]
        count = torch.bincount(owner, minlength=self.items)
        joined = records.new_zeros(self.items, int(count.max()), *records.shape[2:])
        joined[owner, _place_in_group(owner, count)] = records[real]
        return joined, count

    def average(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens of the items, from the tokens of their windows: `features [windows, length, width]` and `mask
        [windows, length]` -> `[items, length, width]`, zero at padding, and `[items, length]`.

        The tokens of all windows of an item follow each other, and runs of neighbors are averaged, so that the item has
        as many tokens as its window with the most. Real token `i` of `n` is in run `floor(i k / n)` of `k`. With one
        token per window, this is the mean over windows.
        """
        if self.one_per_item:
            return features, mask
        owner = self.item.unsqueeze(1).expand_as(mask)[mask]
        count = torch.bincount(owner, minlength=self.items)
        kept = count.new_zeros(self.items).scatter_reduce(0, self.item, mask.sum(1), "amax")
        run = _place_in_group(owner, count) * kept[owner] // count[owner]
        longest = int(kept.max())
        slot = owner * longest + run
        sums = torch.zeros(self.items * longest, features.shape[2], dtype=torch.float32, device=features.device)
        sums = sums.index_add(0, slot, features[mask].float())
        size = torch.bincount(slot, minlength=len(sums)).clamp_min(1).unsqueeze(1)
        averaged = (sums / size).view(self.items, longest, -1).to(features.dtype)
        return averaged, length_mask(kept, longest)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the windows of each item, `[items, n]`, of `values [windows, n]`."""
        if self.one_per_item:
            return values
        sums = values.new_zeros(self.items, values.shape[1]).index_add(0, self.item, values)
        return sums / torch.bincount(self.item, minlength=self.items).unsqueeze(1)


def split_items(data: dict[str, Tensor], size: int, dims: dict[str, int]) -> tuple[Windows, dict[str, Tensor]]:
    """The windows of prepared items, and their tensors in place of those of the items.

    data: tensors `[items, ...]` with a dimension of time, and `length [items]`
    size: the most records of a window
    dims: the dimension of time, of tensors in which it is not 1
    """
    windows = Windows.split(data["length"], size)
    parts = {name: windows.take(tensor, dims.get(name, 1)) for name, tensor in data.items() if name != "length"}
    return windows, {**parts, "length": windows.length}


def _place_in_group(group: Tensor, count: Tensor) -> Tensor:
    """The place of each element in its group: `group [n]` ascends, and `count [groups]` are the sizes."""
    return torch.arange(len(group), device=group.device) - (count.cumsum(0) - count)[group]
