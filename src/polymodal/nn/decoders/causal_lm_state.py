"""Decoding state of a pretrained causal language model."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from polymodal.nn.decoders.gated_cross_attention import CrossAttentionAdapters, KeyValueMemory
from polymodal.nn.decoders.text_decoder import DecodingState
from polymodal.pretrained.hf_cache import HFCache
from polymodal.pretrained.language_model import LanguageModel


class PromptContext(NamedTuple):
    """The context before the answer.

    embedded: embeddings `[batch, length, width]`
    mask: `[batch, length]` bool, True = real
    memories: memories for cross-attention
    blocks: `[batch, length]`, tokens that attend to each other in both directions, as in `LanguageModel.forward`; None
        without such tokens
    """

    embedded: Tensor
    mask: Tensor
    memories: list[KeyValueMemory]
    blocks: Tensor | None = None


class CausalLMState(DecodingState):
    """Caches the keys and values of every token, so that a step computes only one token per row.

    context: the tokens before the answer, left-padded
    steps: the maximum number of tokens after it
    """

    def __init__(
        self, language: LanguageModel, context: PromptContext, steps: int, adapters: CrossAttentionAdapters | None
    ) -> None:
        self.language, self.adapters = language, adapters
        self.context, self.mask, self.memories, self.blocks = context
        self.cache = HFCache(len(self.context), self.context.shape[1] + steps, self.context.device)

    def step(self, tokens: Tensor | None) -> Tensor:
        language = self.language
        if tokens is None:
            new, mask, blocks = self.context, self.mask, self.blocks
        else:
            blocks = None
            new = language.embed(tokens.unsqueeze(1))
            mask = torch.ones(len(tokens), 1, dtype=torch.bool, device=tokens.device)
        cross_attention: Any = nullcontext()
        if self.adapters is not None:
            cross_attention = self.adapters.attached(language.layer_list(), self.memories)
        with cross_attention, language.prepacked.enabled():
            hidden = language(new, mask, self.cache, blocks)
            return language.logits(hidden[:, -1])

    def reorder(self, rows: Tensor) -> None:
        if self.cache.length == 0:
            self.context, self.mask = self.context.index_select(0, rows), self.mask.index_select(0, rows)
            self.blocks = None if self.blocks is None else self.blocks.index_select(0, rows)
        self.cache.reorder(rows)
        self.memories = [
            (key.index_select(0, rows), value.index_select(0, rows), bias.index_select(0, rows))
            for key, value, bias in self.memories
        ]
