"""Short rows laid end to end into lines, so that little is computed for padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedSequences:
    """Rows of tokens in lines, each row whole.

    tokens, place, owner: `[lines, length]` int64: the tokens, their places in their own rows (0 at padding), and
        their rows
    attend: `[lines, length, length]` bool: each token attends to those of its own row up to itself
    line, start: `[rows]`, where each row begins
    """

    tokens: Tensor
    place: Tensor
    owner: Tensor
    attend: Tensor
    line: Tensor
    start: Tensor


def pack_sequences(tokens: Tensor, worth: float = 0.0) -> PackedSequences | None:
    """Rows `[rows, length]` int64, padded with -1 behind, in lines of the longest row's length; None where that saves
    less than the share `worth` of the lines, as where all rows are about as long.

    First fit decreasing: from the longest row down, each goes into the first line that has room.
    """
    real = tokens >= 0
    lengths = real.sum(1)
    longest = int(lengths.max())
    line, start, filled = _first_fit(lengths.tolist(), longest)
    if len(filled) > (1 - worth) * len(tokens):
        return None
    lines, starts = (torch.tensor(one, device=tokens.device) for one in (line, start))

    row, column = real.nonzero(as_tuple=True)
    at = (lines[row], starts[row] + column)
    shape = (len(filled), longest)
    laid = [torch.full(shape, fill, device=tokens.device) for fill in (-1, 0, -1)]
    for target, source in zip(laid, (tokens[row, column], column, row), strict=True):
        target[at] = source
    laid_tokens, place, owner = laid
    before = torch.ones(longest, longest, dtype=torch.bool, device=tokens.device).tril()
    attend = (owner.unsqueeze(1) == owner.unsqueeze(2)) & before
    return PackedSequences(laid_tokens, place, owner.clamp_min(0), attend, lines, starts)


def _first_fit(lengths: list[int], room: int) -> tuple[list[int], list[int], list[int]]:
    """The line and place of each row, and how much of each line is filled."""
    line, start = [0] * len(lengths), [0] * len(lengths)
    filled: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        length = lengths[row]
        found = next((at for at, used in enumerate(filled) if used + length <= room), len(filled))
        if found == len(filled):
            filled.append(0)
        line[row], start[row] = found, filled[found]
        filled[found] += length
    return line, start, filled
