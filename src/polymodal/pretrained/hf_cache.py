"""A key-value cache for the models of transformers, in preallocated buffers."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValues:
    """Key-value cache of a growing batch of sequences, for `past_key_values` of transformers.

    The buffer of each layer is allocated once, `[rows, heads, max_length, d]`. New tokens are written after the cached
    ones, and layers receive a view of the filled part, so adding a token copies nothing.

    mask: `[rows, max_length]` bool, the positions that hold a real token
    length: number of filled positions
    """

    is_compileable = False

    def __init__(self, rows: int, most: int, device: torch.device) -> None:
        self.most, self.length = most, 0
        self.mask = torch.zeros(rows, most, dtype=torch.bool, device=device)
        self._held: list[list[Tensor]] = []

    def extend(self, mask: Tensor) -> None:
        """Set the mask of the next positions, `[rows, new]` bool."""
        self.mask[:, self.length : self.length + mask.shape[1]] = mask

    def advance(self, count: int) -> None:
        """Count `count` more positions as filled, after all layers have added them."""
        self.length += count

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Add `[rows, heads, new, d]` of a layer, and return all keys and values of that layer."""
        if layer_idx == len(self._held):
            self._held.append([one.new_zeros(*one.shape[:2], self.most, one.shape[3]) for one in (keys, values)])
        end = self.length + keys.shape[2]
        found = []
        for held, new in zip(self._held[layer_idx], (keys, values), strict=True):
            held[:, :, self.length : end] = new
            found.append(held[:, :, :end])
        return found[0], found[1]

    def get_seq_length(self, *_: object) -> int:
        """The number of cached tokens (a method that transformers calls)."""
        return self.length

    def select(self, rows: Tensor) -> None:
        """Select these rows `[m]`, in this order; rows may be repeated."""
        if len(rows) == len(self.mask) and torch.equal(rows, torch.arange(len(rows), device=rows.device)):
            return
        self.mask = self.mask.index_select(0, rows)
        for held in self._held:
            for place, one in enumerate(held):
                fresh = one.new_empty(len(rows), *one.shape[1:])
                fresh[:, :, : self.length] = one[:, :, : self.length].index_select(0, rows)
                held[place] = fresh
