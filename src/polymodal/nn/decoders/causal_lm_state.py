"""Decoding state of a pretrained causal language model."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from polymodal.nn.decoders.gated_cross_attention import CrossAttentionAdapters, KeyValueMemory
from polymodal.nn.decoders.text_decoder import DecodingState
from polymodal.pretrained.hf_cache import HFCache
from polymodal.pretrained.language_model import LanguageModel


class CausalLMState(DecodingState):
    """Caches the keys and values of every token, so that a step computes only one token per row.

    context: embeddings `[rows, length, width]` of the tokens before the answer, left-padded
    mask: `[rows, length]` bool, True = real
    """

    def __init__(
        self,
        language: LanguageModel,
        context: Tensor,
        mask: Tensor,
        steps: int,
        adapters: CrossAttentionAdapters | None,
        memories: list[KeyValueMemory],
    ) -> None:
        self.language, self.context, self.mask = language, context, mask
        self.adapters, self.memories = adapters, memories
        self.cache = HFCache(len(context), context.shape[1] + steps, context.device)

    def step(self, tokens: Tensor | None) -> Tensor:
        language = self.language
        if tokens is None:
            new, mask = self.context, self.mask
        else:
            new = language.embed(tokens.unsqueeze(1))
            mask = torch.ones(len(tokens), 1, dtype=torch.bool, device=tokens.device)
        cross_attention: Any = nullcontext()
        if self.adapters is not None:
            cross_attention = self.adapters.attached(language.layer_list(), self.memories)
        with cross_attention, language.prepacked.enabled():
            hidden = language(new, mask, self.cache)
            return language.logits(hidden[:, -1])

    def reorder(self, rows: Tensor) -> None:
        if self.cache.length == 0:
            self.context, self.mask = self.context.index_select(0, rows), self.mask.index_select(0, rows)
        self.cache.reorder(rows)
        self.memories = [
            (key.index_select(0, rows), value.index_select(0, rows), bias.index_select(0, rows))
            for key, value, bias in self.memories
        ]
