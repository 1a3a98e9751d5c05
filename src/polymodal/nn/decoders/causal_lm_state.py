"""Texts that a causal language model is writing."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from polymodal.nn.decoders.gated_cross_attention import KeyValueMemory, CrossAttentionAdapters
from polymodal.nn.decoders.text_decoder import DecodingState
from polymodal.pretrained.hf_cache import KeyValues
from polymodal.pretrained.language_model import LanguageModel


class CausalLMState(DecodingState):
    """Keeps keys and values of every token, so that a step computes one token in each row.

    context: embeddings `[rows, length, width]` of what stands before the answer, padded in front
    mask: `[rows, length]` bool, True = real
    """

    def __init__(
        self,
        language: LanguageModel,
        context: Tensor,
        mask: Tensor,
        steps: int,
        readers: CrossAttentionAdapters | None,
        memories: list[KeyValueMemory],
    ) -> None:
        self.language, self.context, self.mask = language, context, mask
        self.readers, self.memories = readers, memories
        self.kept = KeyValues(len(context), context.shape[1] + steps, context.device)

    def step(self, tokens: Tensor | None) -> Tensor:
        language = self.language
        if tokens is None:
            new, mask = self.context, self.mask
        else:
            new = language.embed(tokens.unsqueeze(1))
            mask = torch.ones(len(tokens), 1, dtype=torch.bool, device=tokens.device)
        reading: Any = nullcontext()
        if self.readers is not None:
            reading = self.readers.reading(language.listed(), self.memories)
        with reading, language.packed.at_work():
            hidden = language(new, mask, self.kept)
            return language.logits(hidden[:, -1])

    def select(self, rows: Tensor) -> None:
        if self.kept.length == 0:
            self.context, self.mask = self.context.index_select(0, rows), self.mask.index_select(0, rows)
        self.kept.select(rows)
        self.memories = [
            (key.index_select(0, rows), value.index_select(0, rows), added.index_select(0, rows))
            for key, value, added in self.memories
        ]
