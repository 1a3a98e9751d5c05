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

#: Keys and values `[batch, heads, length, d]`, and the attention bias `[batch, 1, 1, length]`.
KeyValueMemory = tuple[Tensor, Tensor, Tensor]


class GatedCrossAttention(nn.Module):
    """Cross-attention from the hidden states to a memory, before a layer of the language model:

        x' = x + tanh(a) CA(LN x <- M) ;  x'' = x' + tanh(b) FFN(LN x')

    with a = b = 0 at initialization, so that the language model is unchanged at first (Alayrac et al., "Flamingo: a
    Visual Language Model for Few-Shot Learning", 2022, section 2.2).

    width: width of the hidden states
    memory_width: width of the memory
    """

    def __init__(self, width: int, memory_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.query = nn.LayerNorm(width), nn.Linear(width, width)
        self.key_value, self.out = nn.Linear(memory_width, 2 * width), nn.Linear(width, width)
        self.feed_norm, self.feed = nn.LayerNorm(width), FeedForward(width, 0.0, ratio=2)
        self.gates = nn.Parameter(torch.zeros(2))

    def project(self, features: Tensor, mask: Tensor) -> KeyValueMemory:
        """Keys, values and bias of a memory `[batch, length, memory_width]`, for `forward`."""
        key, value = (split_heads(x, self.heads) for x in self.key_value(features).chunk(2, dim=-1))
        bias = torch.zeros(mask.shape, dtype=key.dtype, device=mask.device).masked_fill(~mask, -1e30)
        return key, value, bias[:, None, None]

    def forward(self, x: Tensor, memory: KeyValueMemory) -> Tensor:
        """`x [batch, length, width]` after cross-attention and feed-forward layer."""
        attn_gate, ffn_gate = self.gates.tanh().unbind()
        key, value, bias = memory
        query = split_heads(self.query(self.query_norm(x)), self.heads)  # [batch, heads, length, d]
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        x = x + (attn_gate * self.out(merge_heads(attended))).to(x.dtype)
        return x + (ffn_gate * self.feed(self.feed_norm(x))).to(x.dtype)


class CrossAttentionAdapters(nn.Module):
    """Gated cross-attention blocks of a language model: one before every n-th layer, starting with the first."""

    def __init__(self, layers: list[nn.Module], every_n_layers: int, width: int, memory_width: int, heads: int) -> None:
        super().__init__()
        self.layer_indices = list(range(0, len(layers), every_n_layers))
        self.blocks = nn.ModuleList(GatedCrossAttention(width, memory_width, heads) for _ in self.layer_indices)

    def project(self, features: Tensor, mask: Tensor) -> list[KeyValueMemory]:
        """Keys, values and bias of a memory `[batch, length, memory_width]` for each block."""
        return [block.project(features, mask) for block in self.blocks]  # type: ignore[operator]

    @contextmanager
    def attached(self, layers: list[nn.Module], memories: list[KeyValueMemory]) -> Iterator[None]:
        """A context in which the blocks run before the layers and attend to these memories."""

        def make_hook(block: nn.Module, memory: KeyValueMemory) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                if args:
                    return (block(args[0], memory), *args[1:]), kwargs
                return args, {**kwargs, "hidden_states": block(kwargs["hidden_states"], memory)}

            return hook

        hooks = [
            layers[index].register_forward_pre_hook(make_hook(block, memory), with_kwargs=True)
            for index, block, memory in zip(self.layer_indices, self.blocks, memories, strict=True)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
