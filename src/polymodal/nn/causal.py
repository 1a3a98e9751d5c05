"""The block of a Transformer that writes, with what it keeps of the tokens before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.nn.transformer import FeedForward


@dataclass
class Kept:
    """Keys and values `[rows, heads, capacity, d]` of the tokens so far, and those of the memory with its mask."""

    key: Tensor
    value: Tensor
    memory_key: Tensor
    memory_value: Tensor
    memory_mask: Tensor

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        for name, tensor in vars(self).items():
            setattr(self, name, tensor.index_select(0, rows))


class CausalBlock(nn.Module):
    """Self-attention to tokens before, cross-attention to a memory, feed-forward; normalisation first:

    x' = x + SA(LN x) ;  x'' = x' + CA(LN x' <- memory) ;  x''' = x'' + FFN(LN x'')
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.self_norm, self.query_key_value, self.self_out = _attention(width, 3)
        self.memory_norm, self.memory_query, self.memory_out = _attention(width, 1)
        self.memory_key_value = nn.Linear(width, 2 * width)
        self.feed_norm, self.feed = nn.LayerNorm(width), FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """`x [rows, length, width]` after `memory [rows, places, width]` with its `mask [rows, places]`."""
        rate = self.rate if self.training else 0.0
        query, key, value = (self._split(one) for one in self.query_key_value(self.self_norm(x)).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=rate)
        x = x + self.dropout(self.self_out(_merge(mixed)))
        key, value = (self._split(one) for one in self.memory_key_value(memory).chunk(2, -1))
        return self._read(x, key, value, mask[:, None, None], rate)

    def keep(self, memory: Tensor, mask: Tensor, capacity: int) -> Kept:
        """Room for `capacity` tokens after this memory."""
        key, value = (self._split(one) for one in self.memory_key_value(memory).chunk(2, -1))
        room = key.new_zeros(len(memory), self.heads, capacity, key.shape[-1])
        return Kept(room, room.clone(), key, value, mask[:, None, None])

    def extend(self, x: Tensor, place: Tensor, kept: Kept) -> Tensor:
        """New tokens `x [rows, new, width]` at places `[rows, new]` after those that are kept; they are kept too."""
        query, key, value = (self._split(one) for one in self.query_key_value(self.self_norm(x)).chunk(3, -1))
        at = place[:, None, :, None].expand_as(key)
        kept.key.scatter_(2, at, key)
        kept.value.scatter_(2, at, value)
        longest = int(place.max()) + 1
        before = torch.arange(longest, device=x.device) <= place.unsqueeze(-1)
        mixed = functional.scaled_dot_product_attention(
            query, kept.key[:, :, :longest], kept.value[:, :, :longest], attn_mask=before.unsqueeze(1)
        )
        x = x + self.self_out(_merge(mixed))
        return self._read(x, kept.memory_key, kept.memory_value, kept.memory_mask, 0.0)

    def _read(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor, rate: float) -> Tensor:
        query = self._split(self.memory_query(self.memory_norm(x)))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        x = x + self.dropout(self.memory_out(_merge(mixed)))
        return x + self.dropout(self.feed(self.feed_norm(x)))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def _attention(width: int, parts: int) -> tuple[nn.LayerNorm, nn.Linear, nn.Linear]:
    return nn.LayerNorm(width), nn.Linear(width, parts * width), nn.Linear(width, width)


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
