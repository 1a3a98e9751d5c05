"""Decoding states of a pretrained encoder-decoder, with a key-value cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from polymodal.nn.decoders.text_decoder import DecodingState
from polymodal.pretrained.seq2seq_decoder import Seq2SeqDecoder, reorder_cache


class EncoderDecoderState(DecodingState):
    """The state of rows whose prefixes have the same length.

    memory: `[n, length, width]`
    mask: `[n, length]`, True = real, or None if all positions are real
    tokens: `[n, length]` int64, the prefix of the generated texts
    """

    def __init__(self, model: Seq2SeqDecoder, memory: Tensor, mask: Tensor | None, tokens: Tensor) -> None:
        self.model, self.memory, self.mask, self.tokens = model, memory, mask, tokens
        self.cache = model.new_cache()

    def step(self, tokens: Tensor | None) -> Tensor:
        new = self.tokens if tokens is None else tokens.unsqueeze(1)
        logits = self.model(self.memory, self.mask, new, self.cache)[:, -1].float()
        if tokens is None:  # its keys and values are cached now; only its shape is still used
            self.memory = self.memory.new_zeros(1, 1, 1).expand_as(self.memory)
        return self.model.suppress_logits(logits, first=tokens is None)

    def reorder(self, rows: Tensor) -> None:
        reorder_cache(self.cache, rows)
        self.tokens, self.memory = self.tokens.index_select(0, rows), self.memory[:1].expand(len(rows), -1, -1)
        self.mask = None if self.mask is None else self.mask.index_select(0, rows)


class GroupedState(DecodingState):
    """Combines the states of several groups of rows.

    group: the group of each row
    init_state: creates the state of the rows `[m]` of a group
    device: the device of the rows; default: that of new tensors
    """

    def __init__(
        self, group: list[int], init_state: Callable[[Tensor], DecodingState], device: torch.device | None = None
    ) -> None:
        number = torch.tensor(group, device=device)
        self.groups = [(number == value).nonzero().squeeze(1) for value in sorted(set(group))]
        self.states = [init_state(rows) for rows in self.groups]

    def step(self, tokens: Tensor | None) -> Tensor:
        logits = [
            state.step(None if tokens is None else tokens[rows])
            for state, rows in zip(self.states, self.groups, strict=True)
        ]
        return torch.cat(logits)[torch.cat(self.groups).argsort()]

    def reorder(self, rows: Tensor) -> None:
        remaining = []
        for state, members in zip(self.states, self.groups, strict=True):
            positions, local = (rows.unsqueeze(1) == members).nonzero(as_tuple=True)
            if len(positions):
                state.reorder(local)
                remaining.append((state, positions))
        self.states, self.groups = [state for state, _ in remaining], [positions for _, positions in remaining]
