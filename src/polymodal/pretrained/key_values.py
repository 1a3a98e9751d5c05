"""Keys and values of tokens that were read, in buffers of a fixed size."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValues:
    """What attention layers keep of a sequence that grows: transformers' models take it as their cache.

    A buffer for each layer is made once, `[rows, heads, most, d]`; a new token is written behind the others, and layers
    get a view of what is filled, so that nothing is copied when a token is added.

    mask: `[rows, most]` bool, which places hold a real token; length: how many places are filled
    """

    is_compileable = False

    def __init__(self, rows: int, most: int, device: torch.device) -> None:
        self.most, self.length = most, 0
        self.mask = torch.zeros(rows, most, dtype=torch.bool, device=device)
        self._held: list[list[Tensor]] = []

    def extend(self, mask: Tensor) -> None:
        """Say which of the next places are real, `[rows, new]` bool."""
        self.mask[:, self.length : self.length + mask.shape[1]] = mask

    def advance(self, count: int) -> None:
        """`count` places are filled in all layers."""
        self.length += count

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Add `[rows, heads, new, d]` of a layer; all keys and values of that layer."""
        if layer_idx == len(self._held):
            self._held.append([one.new_zeros(*one.shape[:2], self.most, one.shape[3]) for one in (keys, values)])
        end = self.length + keys.shape[2]
        found = []
        for held, new in zip(self._held[layer_idx], (keys, values), strict=True):
            held[:, :, self.length : end] = new
            found.append(held[:, :, :end])
        return found[0], found[1]

    def get_seq_length(self, *_: object) -> int:
        """Tokens that are kept, by transformers' name."""
        return self.length

    def select(self, rows: Tensor) -> None:
        """Go on with these rows `[m]`, in this order; they may be repeated."""
        if len(rows) == len(self.mask) and torch.equal(rows, torch.arange(len(rows), device=rows.device)):
            return
        self.mask = self.mask.index_select(0, rows)
        for held in self._held:
            for place, one in enumerate(held):
                fresh = one.new_empty(len(rows), *one.shape[1:])
                fresh[:, :, : self.length] = one[:, :, : self.length].index_select(0, rows)
                held[place] = fresh
