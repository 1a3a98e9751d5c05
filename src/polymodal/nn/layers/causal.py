"""A Transformer decoder block with causal self-attention and cross-attention, and its key-value cache."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.nn.layers.attention import merge_heads, split_heads
from polymodal.nn.layers.transformer import FeedForward

#: Minimum number of positions by which the cache grows.
PAGE = 64


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
        self.heads = heads
        self.self_norm, self.query_key_value, self.self_out = _attention(width, 3)
        self.memory_norm, self.memory_query, self.memory_out = _attention(width, 1)
        self.memory_key_value = nn.Linear(width, 2 * width)
        self.feed_norm, self.feed = nn.LayerNorm(width), FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor, *, attend: Tensor | None = None, owner: Tensor | None = None
    ) -> Tensor:
        """`x [sequences, length, width]`, `memory [rows, positions, width]`, `mask [rows, positions]` -> the shape of
        x.

        attention_mask: `[sequences, length, length]` bool, the tokens to which each token attends; None: causal
        memory_index: `[sequences, length]`, the row of the (single-position) memory that each token attends to; None:
            sequence i attends to row i
        """
        query, key, value = self._split_self(x)
        pair = None if attend is None else attend.unsqueeze(1)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=pair, is_causal=pair is None)
        x = x + self.dropout(self.self_out(merge_heads(mixed)))
        read = self.remember(memory)
        if owner is not None:
            read = (read[0][owner, 0],)
        return self._read_and_think(x, read, mask[:, None, None])

    def remember(self, memory: Tensor) -> tuple[Tensor, ...]:
        """The keys and values of `memory [rows, positions, width]`, each `[rows, heads, positions, d]`; for a memory of
        a single position, the output of the cross-attention, `[rows, 1, width]`."""
        key, value = self.memory_key_value(memory).chunk(2, -1)
        if memory.shape[1] == 1:
            return (self.memory_out(value),)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def begin(self, x: Tensor, kept: Kept, layer: int) -> Tensor:
        """Process the first tokens `x [rows, length, width]` and fill `cache`; short rows are padded at the end."""
        query, key, value = self._split_self(x)
        kept.put(layer, torch.stack([key, value]))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._read_and_think(x + self.self_out(merge_heads(mixed)), kept.memory[layer], kept.memory_mask)

    def extend(self, x: Tensor, kept: Kept, layer: int) -> Tensor:
        """Process one more token in each row, `x [rows, width]`: the same as `forward`, with fewer operations."""
        rows, width = x.shape
        parts = self.query_key_value(self.self_norm(x)).view(rows, 3, self.heads, 1, -1).transpose(0, 1)
        keys, values = kept.put(layer, parts[1:])
        mixed = functional.scaled_dot_product_attention(parts[0], keys, values, attn_mask=kept.mask)
        x = x + self.self_out(mixed.reshape(rows, width))
        read = kept.memory[layer]
        if len(read) == 1:
            x = x + read[0].squeeze(1)
        else:
            key, value = read
            query = self.memory_query(self.memory_norm(x)).view(rows, self.heads, 1, -1)
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=kept.memory_mask)
            x = x + self.memory_out(mixed.reshape(rows, width))
        return x + self.feed(self.feed_norm(x))

    def _read_and_think(self, x: Tensor, read: tuple[Tensor, ...], mask: Tensor | None) -> Tensor:
        if len(read) == 1:
            x = x + self.dropout(read[0])
        else:
            key, value = read
            query = split_heads(self.memory_query(self.memory_norm(x)), self.heads)
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            x = x + self.dropout(self.memory_out(merge_heads(mixed)))
        return x + self.dropout(self.feed(self.feed_norm(x)))

    def _split_self(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.query_key_value(self.self_norm(x)).chunk(3, -1)
        return split_heads(query, self.heads), split_heads(key, self.heads), split_heads(value, self.heads)


class Kept:
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
        self.used, self.new = 0, length
        self.real = None if bool(real.all()) else real
        self.memory = [block.remember(memory) for block in blocks]
        self.memory_mask = None if bool(mask.all()) else mask[:, None, None]
        self.owner = torch.arange(rows, device=real.device)
        shape = (len(blocks), 2, rows, blocks[0].heads, 0, memory.shape[2] // blocks[0].heads)
        self.store = self.memory[0][0].new_empty(shape)
        self.layers = self.store.unbind()

    @property
    def mask(self) -> Tensor | None:
        """The cached positions to which a new token attends, `[rows, 1, 1, positions]`; None: all."""
        return None if self.real is None else self.real[:, None, None]

    def put(self, layer: int, both: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values `[2, rows, heads, new, d]` and return all keys and values of the layer."""
        end = self.used + self.new
        if end > self.store.shape[4]:
            self._copy(end, None)
        self.layers[layer].narrow(3, self.used, self.new).copy_(both)
        keys, values = self.layers[layer].narrow(3, 0, end).unbind()
        return keys, values

    def advance(self) -> None:
        """Count the new tokens as cached, after all layers have appended them; the next step adds one token."""
        self.used, self.new = self.used + self.new, 1
        if self.real is not None:
            self.real = functional.pad(self.real, (0, 1), value=True)

    def select(self, rows: Tensor) -> None:
        """Select these rows, in this order (as beam search does). The memory is not copied if it stays the same."""
        everyone = torch.arange(self.store.shape[2], device=rows.device)
        if torch.equal(rows, everyone):
            return
        self._copy(self.used + 1, rows)
        self.real = None if self.real is None else self.real.index_select(0, rows)
        owner = self.owner.index_select(0, rows)
        if not torch.equal(owner, self.owner):
            self.memory = [tuple(one.index_select(0, rows) for one in layer) for layer in self.memory]
            self.memory_mask = None if self.memory_mask is None else self.memory_mask.index_select(0, rows)
        self.owner = owner

    def _copy(self, places: int, rows: Tensor | None) -> None:
        """Copy the cached positions (of `rows`) to a buffer with a capacity of at least `places`."""
        layers, both, count, heads, room, size = self.store.shape
        if places > room:
            room = max(-(-places // PAGE) * PAGE, room + room // 2)
        fresh = self.store.new_empty(layers, both, count if rows is None else len(rows), heads, room, size)
        used = self.store[..., : self.used, :]
        fresh[..., : self.used, :] = used if rows is None else used.index_select(2, rows)
        self.store, self.layers = fresh, fresh.unbind()


def _attention(width: int, parts: int) -> tuple[nn.LayerNorm, nn.Linear, nn.Linear]:
    return nn.LayerNorm(width), nn.Linear(width, parts * width), nn.Linear(width, width)
