"""Pre-norm Transformer blocks with self-attention and with cross-attention, and sinusoidal positions."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from polymodal.nn.layers.attention import MultiHeadAttention
from polymodal.runtime.compute import CPU


class FeedForward(nn.Sequential):
    """Position-wise MLP: linear -> exact GELU -> dropout -> linear, with a hidden layer of `ratio` times the width."""

    def __init__(self, width: int, dropout: float, ratio: int = 4) -> None:
        hidden = width * ratio
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))


class TransformerBlock(nn.Module):
    """A pre-norm Transformer encoder block (Xiong et al., "On Layer Normalization in the Transformer Architecture",
    2020):

        x' = x + SA(LN x) ;  x'' = x' + FFN(LN x')

    Example:
        >>> import torch
        >>> TransformerBlock(16, 4, 0.0)(torch.randn(2, 5, 16)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, width: int, heads: int, dropout: float, ratio: int = 4) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), MultiHeadAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.LayerNorm(width), FeedForward(width, dropout, ratio)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, pair_mask: Tensor | None = None) -> Tensor:
        """`x [batch, length, width]`, `mask [batch, length]`, `pair_mask [batch or 1, length, length]` (bool)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask, pair_mask=pair_mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class CrossAttentionBlock(nn.Module):
    """A pre-norm block of cross-attention from x to y and a feed-forward layer:

        x' = x + CA(LN x <- LN y) ;  x'' = x' + FFN(LN x')

    With `gated`, the outputs of both sublayers are multiplied by tanh(alpha), with one learned alpha each, initialized
    to 0: the block starts as the identity (Alayrac et al., "Flamingo: a Visual Language Model for Few-Shot Learning",
    2022).
    """

    def __init__(self, width: int, heads: int, dropout: float, ratio: int = 4, gated: bool = False) -> None:
        super().__init__()
        self.query_norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.feed_forward_norm, self.feed_forward = nn.LayerNorm(width), FeedForward(width, dropout, ratio)
        self.dropout = nn.Dropout(dropout)
        self.alpha = nn.Parameter(torch.zeros(2)) if gated else None

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """`x [batch, length, width]`, `context [batch, keys, width]`, `mask [batch, keys]` bool over the context."""
        attn_gate, ffn_gate = (1.0, 1.0) if self.alpha is None else self.alpha.tanh().unbind()
        attended = self.attention(self.query_norm(x), self.context_norm(context), mask)
        x = x + attn_gate * self.dropout(attended)
        return x + ffn_gate * self.dropout(self.feed_forward(self.feed_forward_norm(x)))


def positions_on(device: torch.device, length: int, width: int) -> Tensor:
    """`sinusoidal_positions` on a device, copied to an accelerator once; it must not be changed in place."""
    return sinusoidal_positions(length, width) if device.type == CPU else _copied_positions(device, length, width)


@lru_cache(maxsize=64)
def _copied_positions(device: torch.device, length: int, width: int) -> Tensor:
    with torch.inference_mode(False):
        return sinusoidal_positions(length, width).to(device)


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Fixed position embeddings `[length, width]` (Vaswani et al., 2017): sine in even columns, cosine in odd ones.

    p[t, 2i] = sin(t / 10000^(2i / width)) ;  p[t, 2i+1] = cos(t / 10000^(2i / width))
    """
    column = torch.arange(0, width, 2, dtype=torch.float32)
    angle = torch.arange(length, dtype=torch.float32).unsqueeze(1) * torch.exp(column * (-math.log(10000.0) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
