"""Gated cross-attention between the layers of a pretrained language model (Flamingo)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.nn.layers.attention import merge_heads, split_heads
from polymodal.nn.layers.transformer import FeedForward

#: Keys and values `[batch, heads, length, d]`, and what is added to scores, `[batch, 1, 1, length]`.
KeyValueMemory = tuple[Tensor, Tensor, Tensor]


class GatedCrossAttention(nn.Module):
    """Before a layer of the language model, its hidden states read a memory:

        x' = x + tanh(a) CA(LN x <- M) ;  x'' = x' + tanh(b) FFN(LN x')

    with a = b = 0 at the start, so that the language model begins as it was (Alayrac et al., "Flamingo: a Visual
    Language Model for Few-Shot Learning", 2022, section 2.2).

    width: of the hidden states; memory: of what is read
    """

    def __init__(self, width: int, memory: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.query = nn.LayerNorm(width), nn.Linear(width, width)
        self.key_value, self.out = nn.Linear(memory, 2 * width), nn.Linear(width, width)
        self.feed_norm, self.feed = nn.LayerNorm(width), FeedForward(width, 0.0, ratio=2)
        self.alpha = nn.Parameter(torch.zeros(2))

    def keep(self, features: Tensor, mask: Tensor) -> KeyValueMemory:
        """Keys, values and mask of a memory `[batch, length, memory]`, for `forward`."""
        key, value = (split_heads(one, self.heads) for one in self.key_value(features).chunk(2, dim=-1))
        hidden = torch.zeros(mask.shape, dtype=key.dtype, device=mask.device).masked_fill(~mask, -1e30)
        return key, value, hidden[:, None, None]

    def forward(self, x: Tensor, memory: KeyValueMemory) -> Tensor:
        """`x [batch, length, width]` after reading."""
        read, think = self.alpha.tanh().unbind()
        key, value, added = memory
        query = split_heads(self.query(self.query_norm(x)), self.heads)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=added.to(query.dtype))
        x = x + (read * self.out(merge_heads(found))).to(x.dtype)
        return x + (think * self.feed(self.feed_norm(x))).to(x.dtype)


class CrossAttentionAdapters(nn.Module):
    """The gated blocks of a language model: one before every `every`-th of its layers, from the first on."""

    def __init__(self, layers: list[nn.Module], every: int, width: int, memory: int, heads: int) -> None:
        super().__init__()
        self.places = list(range(0, len(layers), every))
        self.blocks = nn.ModuleList(GatedCrossAttention(width, memory, heads) for _ in self.places)

    def keep(self, features: Tensor, mask: Tensor) -> list[KeyValueMemory]:
        """What each block reads of a memory `[batch, length, memory]`."""
        return [block.keep(features, mask) for block in self.blocks]  # type: ignore[operator]

    @contextmanager
    def reading(self, layers: list[nn.Module], memories: list[KeyValueMemory]) -> Iterator[None]:
        """Within, the blocks stand before the layers and read these memories."""

        def before(block: nn.Module, memory: KeyValueMemory) -> Any:
            def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
                if given:
                    return (block(given[0], memory), *given[1:]), named
                return given, {**named, "hidden_states": block(named["hidden_states"], memory)}

            return hook

        hooks = [
            layers[place].register_forward_pre_hook(before(block, memory), with_kwargs=True)
            for place, block, memory in zip(self.places, self.blocks, memories, strict=True)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
