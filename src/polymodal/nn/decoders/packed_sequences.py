"""Sequence packing: several short sequences in one row, to reduce computation on padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polymodal.runtime.host_reads import can_read


@dataclass(frozen=True)
class PackedSequences:
    """Packed sequences; no sequence is split.

    tokens, position, owner: `[packs, length]` int64: the tokens, their positions in their own sequences (0 at padding),
        and the indices of their sequences
    attend: `[packs, length, length]` bool: each token attends to the tokens of its own sequence up to itself
    pack, start: `[rows]`, the pack of each sequence and its first position there
    """

    tokens: Tensor
    position: Tensor
    owner: Tensor
    attend: Tensor
    pack: Tensor
    start: Tensor


def pack_sequences(tokens: Tensor, min_saving: float = 0.0) -> PackedSequences | None:
    """Pack the rows of `tokens [rows, length]` int64 (right-padded with -1) into packs of the length of the longest
    row.

    Returns None if that saves less than the fraction `min_saving` of the rows, and on an accelerator, where the lengths
    would have to be read. The algorithm is first fit decreasing:
    from the longest sequence to the shortest, each goes into the first pack with enough room.
    """
    if not can_read(tokens):
        return None
    real = tokens >= 0
    lengths = real.sum(1)
    longest = int(lengths.max())
    pack, start, filled = _first_fit(lengths.tolist(), longest)
    if len(filled) > (1 - min_saving) * len(tokens):
        return None
    packs, starts = (torch.tensor(values, device=tokens.device) for values in (pack, start))

    row, column = real.nonzero(as_tuple=True)
    index = (packs[row], starts[row] + column)
    shape = (len(filled), longest)
    packed = [torch.full(shape, fill, device=tokens.device) for fill in (-1, 0, -1)]
    for target, source in zip(packed, (tokens[row, column], column, row), strict=True):
        target[index] = source
    packed_tokens, position, owner = packed
    causal = torch.ones(longest, longest, dtype=torch.bool, device=tokens.device).tril()
    attend = (owner.unsqueeze(1) == owner.unsqueeze(2)) & causal
    return PackedSequences(packed_tokens, position, owner.clamp_min(0), attend, packs, starts)


def _first_fit(lengths: list[int], room: int) -> tuple[list[int], list[int], list[int]]:
    """The pack and first position of each sequence, and the length used in each pack."""
    pack, start = [0] * len(lengths), [0] * len(lengths)
    filled: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        length = lengths[row]
        index = next((n for n, used in enumerate(filled) if used + length <= room), len(filled))
        if index == len(filled):
            filled.append(0)
        pack[row], start[row] = index, filled[index]
        filled[index] += length
    return pack, start, filled
