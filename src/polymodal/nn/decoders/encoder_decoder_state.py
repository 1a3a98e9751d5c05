"""Writing with the decoder of a pretrained encoder-decoder, which keeps keys and values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from polymodal.nn.decoders.text_decoder import DecodingState
from polymodal.pretrained.seq2seq_decoder import SequenceModel, select


class EncoderDecoderState(DecodingState):
    """Texts that go on from tokens of one length in all rows.

    memory: `[n, places, width]`; mask: `[n, places]`, True = real, or None where all are
    tokens: `[n, length]` int64, what stands before the texts
    """

    def __init__(self, model: SequenceModel, memory: Tensor, mask: Tensor | None, tokens: Tensor) -> None:
        self.model, self.memory, self.mask, self.tokens = model, memory, mask, tokens
        self.cache = model.new_cache()

    def step(self, tokens: Tensor | None) -> Tensor:
        new = self.tokens if tokens is None else tokens.unsqueeze(1)
        logits = self.model(self.memory, self.mask, new, self.cache)[:, -1].float()
        if tokens is None:  # its keys and values are kept now; only its shape still counts
            self.memory = self.memory.new_zeros(1, 1, 1).expand_as(self.memory)
        return self.model.bar(logits, first=tokens is None)

    def select(self, rows: Tensor) -> None:
        select(self.cache, rows)
        self.tokens, self.memory = self.tokens.index_select(0, rows), self.memory[:1].expand(len(rows), -1, -1)
        self.mask = None if self.mask is None else self.mask.index_select(0, rows)


class GroupedState(DecodingState):
    """Drafts of some rows each, as one.

    group: of each row; begin: the draft of the rows `[m]` of a group
    """

    def __init__(self, group: list[int], begin: Callable[[Tensor], DecodingState]) -> None:
        number = torch.tensor(group)
        self.parts = [(number == one).nonzero().squeeze(1) for one in sorted(set(group))]
        self.drafts = [begin(rows) for rows in self.parts]

    def step(self, tokens: Tensor | None) -> Tensor:
        found = [
            draft.step(None if tokens is None else tokens[rows])
            for draft, rows in zip(self.drafts, self.parts, strict=True)
        ]
        return torch.cat(found)[torch.cat(self.parts).argsort()]

    def select(self, rows: Tensor) -> None:
        left = []
        for draft, held in zip(self.drafts, self.parts, strict=True):
            wanted, local = (rows.unsqueeze(1) == held).nonzero(as_tuple=True)
            if len(wanted):
                draft.select(local)
                left.append((draft, wanted))
        self.drafts, self.parts = [draft for draft, _ in left], [places for _, places in left]
