"""Multi-head attention that selects the faster of two equivalent kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polymodal.runtime.compute import CPU

#: Maximum number of tokens (queries and keys) for which a CPU uses explicit matrix products and softmax, by dtype.
#: Longer sequences, other dtypes and other devices use the fused kernel. Measured in training on a CPU with bf16 matrix
#: units, width 96, 4 heads: in bf16 the explicit form is 2 to 9 times faster up to 256 tokens and slower from 512
#: tokens; in fp32 it is slightly faster at 16 tokens and slower from 64 tokens (2 times at 512).
MAX_PLAIN_LENGTH = {torch.bfloat16: 384, torch.float32: 32}


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention over several heads (Vaswani et al., "Attention Is All You Need", 2017).

        head_i = softmax(Q_i K_i^T / sqrt(width / heads)) V_i ;  out = W [head_1; ..; head_h] + b

    Masked keys are ignored. A query without an allowed key gives exactly zero, with zero gradients.

    Raises:
        ValueError: `num_heads` does not divide `width`.

    Example:
        >>> import torch
        >>> attention = MultiHeadAttention(16, num_heads=4)
        >>> mask = torch.tensor([[True, True, False]])
        >>> attention(torch.randn(1, 3, 16), mask=mask).shape
        torch.Size([1, 3, 16])
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {width}")
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, pair_mask: Tensor | None = None
    ) -> Tensor:
        """Attend from `x [batch, queries, width]` to `context [batch, keys, width]` (`x` itself if None).

        mask: `[batch, keys]` bool, True = a key that may be attended to
        pair_mask: `[batch or 1, queries, keys]` bool, True = this query may attend to this key
        """
        context = x if context is None else context
        query = split_heads(self.query(x), self.num_heads)
        key, value = (split_heads(part, self.num_heads) for part in self.key_value(context).chunk(2, dim=-1))
        allowed = _combine_masks(mask, pair_mask)
        empty = None
        if allowed is not None:
            empty = ~allowed.any(-1, keepdim=True)
            allowed = allowed | empty  # a softmax over no keys gives NaN; these rows are set to zero below
        dropout = self.dropout if self.training else 0.0
        plain_length = MAX_PLAIN_LENGTH.get(query.dtype, 0) if query.device.type == CPU else 0
        short = max(query.shape[2], key.shape[2]) <= plain_length
        attend = plain_attention if short else fused_attention
        mixed = attend(query, key, value, allowed, dropout)
        result = self.out(merge_heads(mixed))
        return result if empty is None else result.masked_fill(empty[:, 0], 0.0)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """`[batch, length, width]` -> `[batch, heads, length, width / heads]`."""
    return x.view(*x.shape[:2], num_heads, x.shape[-1] // num_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """`[batch, heads, length, d]` -> `[batch, length, heads * d]`."""
    return x.transpose(1, 2).flatten(2)


def _combine_masks(mask: Tensor | None, pair_mask: Tensor | None) -> Tensor | None:
    """Both masks combined, `[batch or 1, 1, queries or 1, keys]`."""
    if mask is None:
        return None if pair_mask is None else pair_mask.unsqueeze(1)
    keys = mask[:, None, None, :]
    return keys if pair_mask is None else keys & pair_mask.unsqueeze(1)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, dropout: float) -> Tensor:
    """Attention as explicit matrix products: query `[batch, heads, queries, d]`, key and value
    `[batch, heads, keys, d]`.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    if dropout:
        weights = F.dropout(weights, dropout)
    return weights @ value


def fused_attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, dropout: float) -> Tensor:
    """The same result from the fused kernel of torch, without the `[queries, keys]` matrix in memory."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout)
