"""A Transformer decoder block with causal self-attention and cross-attention, and its key-value cache."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.nn.layers.attention import merge_heads, split_heads
from polymodal.nn.layers.transformer import FeedForward

#: Minimum number of positions by which the cache grows.
CACHE_PAGE = 64


class CausalBlock(nn.Module):
    """A pre-norm Transformer decoder block: causal self-attention, cross-attention to a memory, feed-forward.

        x' = x + SA(LN x) ;  x'' = x' + CA(LN x' <- memory) ;  x''' = x'' + FFN(LN x'')

    Dropout applies to the output of each of the three sublayers, not to attention weights, since the fused CPU kernels
    do not support it. With a memory of a single position, attention weights are always 1, so its value is added
    directly.

    Example:
        >>> import torch
        >>> block = CausalBlock(16, 4, 0.0)
        >>> x, memory, mask = torch.randn(2, 5, 16), torch.randn(2, 3, 16), torch.ones(2, 3, dtype=torch.bool)
        >>> block(x, memory, mask).shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = heads
        self.self_norm, self.query_key_value, self.self_out = _norm_and_projections(width, 3)
        self.memory_norm, self.memory_query, self.memory_out = _norm_and_projections(width, 1)
        self.memory_key_value = nn.Linear(width, 2 * width)
        self.feed_forward_norm, self.feed_forward = nn.LayerNorm(width), FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor,
        *,
        attention_mask: Tensor | None = None,
        memory_index: Tensor | None = None,
    ) -> Tensor:
        """`x [sequences, length, width]`, `memory [rows, positions, width]`, `mask [rows, positions]` -> the shape of
        x.

        attention_mask: `[sequences, length, length]` bool, the tokens to which each token attends; None: causal
        memory_index: `[sequences, length]`, the row of the (single-position) memory that each token attends to; None:
            sequence i attends to row i
        """
        query, key, value = self._query_key_value(x)
        pair_mask = None if attention_mask is None else attention_mask.unsqueeze(1)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=pair_mask, is_causal=pair_mask is None
        )
        x = x + self.dropout(self.self_out(merge_heads(mixed)))
        memory_kv = self.project_memory(memory)
        if memory_index is not None:
            memory_kv = (memory_kv[0][memory_index, 0],)
        return self._cross_attend(x, memory_kv, mask[:, None, None])

    def project_memory(self, memory: Tensor) -> tuple[Tensor, ...]:
        """The keys and values of `memory [rows, positions, width]`, each `[rows, heads, positions, d]`; for a memory of
        a single position, the output of the cross-attention, `[rows, 1, width]`."""
        key, value = self.memory_key_value(memory).chunk(2, -1)
        if memory.shape[1] == 1:
            return (self.memory_out(value),)
        return split_heads(key, self.num_heads), split_heads(value, self.num_heads)

    def prefill(self, x: Tensor, cache: KVCache, layer: int) -> Tensor:
        """Process the first tokens `x [rows, length, width]` and fill `cache`; short rows are padded at the end."""
        query, key, value = self._query_key_value(x)
        cache.append(layer, torch.stack([key, value]))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._cross_attend(x + self.self_out(merge_heads(mixed)), cache.memory[layer], cache.memory_mask)

    def decode_step(self, x: Tensor, cache: KVCache, layer: int) -> Tensor:
        """Process one more token in each row, `x [rows, width]`: the same as `forward`, with fewer operations."""
        rows, width = x.shape
        query_key_value = self.query_key_value(self.self_norm(x)).view(rows, 3, self.num_heads, 1, -1).transpose(0, 1)
        keys, values = cache.append(layer, query_key_value[1:])
        mixed = functional.scaled_dot_product_attention(query_key_value[0], keys, values, attn_mask=cache.mask)
        x = x + self.self_out(mixed.reshape(rows, width))
        memory_kv = cache.memory[layer]
        if len(memory_kv) == 1:
            x = x + memory_kv[0].squeeze(1)
        else:
            key, value = memory_kv
            query = self.memory_query(self.memory_norm(x)).view(rows, self.num_heads, 1, -1)
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=cache.memory_mask)
            x = x + self.memory_out(mixed.reshape(rows, width))
        return x + self.feed_forward(self.feed_forward_norm(x))

    def _cross_attend(self, x: Tensor, memory_kv: tuple[Tensor, ...], mask: Tensor | None) -> Tensor:
        if len(memory_kv) == 1:
            x = x + self.dropout(memory_kv[0])
        else:
            key, value = memory_kv
            query = split_heads(self.memory_query(self.memory_norm(x)), self.num_heads)
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            x = x + self.dropout(self.memory_out(merge_heads(mixed)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def _query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.query_key_value(self.self_norm(x)).chunk(3, -1)
        return split_heads(query, self.num_heads), split_heads(key, self.num_heads), split_heads(value, self.num_heads)


class KVCache:
    """Key-value cache of a stack of `CausalBlock`: keys and values of all previous tokens and of the memory, per layer.

    The buffer grows in pages. All rows advance together: a new token has the same position in each row, and the padding
    after a short prefix stays masked.

    buffer: keys and values, `[layers, 2, rows, heads, capacity, d]`
    length: number of cached positions
    num_new: number of positions that are currently being added
    valid: `[rows, length]` bool, False at padding; None without padding
    memory: the output of `CausalBlock.project_memory` of each layer
    memory_mask: `[rows, 1, 1, positions]`, None without padding
    memory_index: `[rows]`, the original row whose memory each row attends to
    """

    def __init__(self, blocks: list[CausalBlock], memory: Tensor, mask: Tensor, real: Tensor) -> None:
        rows, length = real.shape
        self.length, self.num_new = 0, length
        self.valid = None if bool(real.all()) else real
        self.memory = [block.project_memory(memory) for block in blocks]
        self.memory_mask = None if bool(mask.all()) else mask[:, None, None]
        self.memory_index = torch.arange(rows, device=real.device)
        shape = (len(blocks), 2, rows, blocks[0].num_heads, 0, memory.shape[2] // blocks[0].num_heads)
        self.buffer = self.memory[0][0].new_empty(shape)
        self.layers = self.buffer.unbind()

    @property
    def mask(self) -> Tensor | None:
        """The cached positions to which a new token attends, `[rows, 1, 1, positions]`; None: all."""
        return None if self.valid is None else self.valid[:, None, None]

    def append(self, layer: int, key_value: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values `[2, rows, heads, new, d]` and return all keys and values of the layer."""
        end = self.length + self.num_new
        if end > self.buffer.shape[4]:
            self._copy(end, None)
        self.layers[layer].narrow(3, self.length, self.num_new).copy_(key_value)
        keys, values = self.layers[layer].narrow(3, 0, end).unbind()
        return keys, values

    def advance(self) -> None:
        """Count the new tokens as cached, after all layers have appended them; the next step adds one token."""
        self.length, self.num_new = self.length + self.num_new, 1
        if self.valid is not None:
            self.valid = functional.pad(self.valid, (0, 1), value=True)

    def reorder(self, rows: Tensor) -> None:
        """Select these rows, in this order (as beam search does). The memory is not copied if it stays the same."""
        current = torch.arange(self.buffer.shape[2], device=rows.device)
        if torch.equal(rows, current):
            return
        self._copy(self.length + 1, rows)
        self.valid = None if self.valid is None else self.valid.index_select(0, rows)
        memory_index = self.memory_index.index_select(0, rows)
        if not torch.equal(memory_index, self.memory_index):
            self.memory = [tuple(tensor.index_select(0, rows) for tensor in layer) for layer in self.memory]
            self.memory_mask = None if self.memory_mask is None else self.memory_mask.index_select(0, rows)
        self.memory_index = memory_index

    def _copy(self, capacity: int, rows: Tensor | None) -> None:
        """Copy the cached positions (of `rows`) to a buffer with at least this `capacity`."""
        layers, both, count, heads, allocated, head_dim = self.buffer.shape
        if capacity > allocated:
            allocated = max(-(-capacity // CACHE_PAGE) * CACHE_PAGE, allocated + allocated // 2)
        buffer = self.buffer.new_empty(layers, both, count if rows is None else len(rows), heads, allocated, head_dim)
        cached = self.buffer[..., : self.length, :]
        buffer[..., : self.length, :] = cached if rows is None else cached.index_select(2, rows)
        self.buffer, self.layers = buffer, buffer.unbind()


def _norm_and_projections(width: int, num_projections: int) -> tuple[nn.LayerNorm, nn.Linear, nn.Linear]:
    return nn.LayerNorm(width), nn.Linear(width, num_projections * width), nn.Linear(width, width)
