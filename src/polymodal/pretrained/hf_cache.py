"""A key-value cache for the models of transformers, in preallocated buffers."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.runtime.host_reads import can_read


class HFCache:
    """Key-value cache of a growing batch of sequences, for `past_key_values` of transformers.

    The buffer of each layer is allocated once, `[rows, heads, max_length, d]`. New tokens are written after the cached
    ones, and layers receive a view of the filled part, so adding a token copies nothing.

    mask: `[rows, max_length]` bool, the positions that hold a real token
    length: number of filled positions
    """

    is_compileable = False

    def __init__(self, rows: int, max_length: int, device: torch.device) -> None:
        self.max_length, self.length = max_length, 0
        self.mask = torch.zeros(rows, max_length, dtype=torch.bool, device=device)
        self._buffers: list[list[Tensor]] = []

    def append_mask(self, mask: Tensor) -> None:
        """Set the mask of the next positions, `[rows, new]` bool."""
        self.mask[:, self.length : self.length + mask.shape[1]] = mask

    def advance(self, count: int) -> None:
        """Count `count` more positions as filled, after all layers have added them."""
        self.length += count

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Add `[rows, heads, new, d]` of a layer, and return all keys and values of that layer."""
        if layer_idx == len(self._buffers):
            self._buffers.append(
                [new.new_zeros(*new.shape[:2], self.max_length, new.shape[3]) for new in (keys, values)]
            )
        end = self.length + keys.shape[2]
        filled = []
        for buffer, new in zip(self._buffers[layer_idx], (keys, values), strict=True):
            buffer[:, :, self.length : end] = new
            filled.append(buffer[:, :, :end])
        return filled[0], filled[1]

    def get_seq_length(self, *_: object) -> int:
        """The number of cached tokens (a method that transformers calls)."""
        return self.length

    def reorder(self, rows: Tensor) -> None:
        """Select these rows `[m]`, in this order; rows may be repeated."""
        if can_read(rows) and len(rows) == len(self.mask) and torch.equal(rows, torch.arange(len(rows))):
            return
        self.mask = self.mask.index_select(0, rows)
        for layer in self._buffers:
            for index, buffer in enumerate(layer):
                selected = buffer.new_empty(len(rows), *buffer.shape[1:])
                selected[:, :, : self.length] = buffer[:, :, : self.length].index_select(0, rows)
                layer[index] = selected
