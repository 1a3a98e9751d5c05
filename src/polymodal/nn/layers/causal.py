"""The block of a Transformer that writes, and what a stack of them keeps of the tokens before."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.nn.layers.attention import merge_heads, split_heads
from polymodal.nn.layers.transformer import FeedForward

#: Places that what is kept grows by, at the least.
PAGE = 64


class CausalBlock(nn.Module):
    """Self-attention to tokens before, cross-attention to a memory, feed-forward; normalisation first:

    x' = x + SA(LN x) ;  x'' = x' + CA(LN x' <- memory) ;  x''' = x'' + FFN(LN x'')

    Dropout falls on what each of the three adds, and not on weights of attention, for which the fused kernels of
    processors have no dropout. A memory of one place leaves attention no choice, so its value is added as it is.
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
        """`x [lines, length, width]` after `memory [rows, places, width]` with its `mask [rows, places]`.

        attend: `[lines, length, length]` bool, what each token attends to; None: all up to itself
        owner: `[lines, length]`, the row whose memory, of one place, each token reads; None: line i reads row i
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
        """What the block reads of `memory [rows, places, width]`: keys and values `[rows, heads, places, d]`; of one
        place what it adds, `[rows, 1, width]`."""
        key, value = self.memory_key_value(memory).chunk(2, -1)
        if memory.shape[1] == 1:
            return (self.memory_out(value),)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def begin(self, x: Tensor, kept: Kept, layer: int) -> Tensor:
        """The first tokens `x [rows, length, width]`; short rows end in padding, which `kept` knows of."""
        query, key, value = self._split_self(x)
        kept.put(layer, torch.stack([key, value]))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._read_and_think(x + self.self_out(merge_heads(mixed)), kept.memory[layer], kept.memory_mask)

    def extend(self, x: Tensor, kept: Kept, layer: int) -> Tensor:
        """One more token in each row, `x [rows, width]`. The same as in `forward`, in as few operations as can be."""
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
    """Keys and values of the tokens so far in every layer, and what each layer reads of the memory.

    Room is made in pages as tokens come. Rows of different lengths are in step: a token goes to the same place in
    each, and what was padding behind a short beginning stays hidden.

    store: keys and values, `[layers, 2, rows, heads, room, d]`
    used: places that are taken
    real: `[rows, used]` bool, False at padding; None without any
    memory: what `CausalBlock.remember` gives, layer by layer; memory_mask `[rows, 1, 1, places]`, None without padding
    owner: `[rows]`, the row at the beginning whose memory each row reads
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
        """What a new token attends to, `[rows, 1, 1, places]`; None: to all."""
        return None if self.real is None else self.real[:, None, None]

    def put(self, layer: int, both: Tensor) -> tuple[Tensor, Tensor]:
        """Keep new keys and values `[2, rows, heads, new, d]`, and give all so far."""
        end = self.used + self.new
        if end > self.store.shape[4]:
            self._copy(end, None)
        self.layers[layer].narrow(3, self.used, self.new).copy_(both)
        keys, values = self.layers[layer].narrow(3, 0, end).unbind()
        return keys, values

    def advance(self) -> None:
        """The new tokens are in every layer; one more will come."""
        self.used, self.new = self.used + self.new, 1
        if self.real is not None:
            self.real = functional.pad(self.real, (0, 1), value=True)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order. Where each goes on in a row of the same memory, as beams do, that stays."""
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
        """Copy what is used (of `rows`) to where there is room for `places`."""
        layers, both, count, heads, room, size = self.store.shape
        if places > room:
            room = max(-(-places // PAGE) * PAGE, room + room // 2)
        fresh = self.store.new_empty(layers, both, count if rows is None else len(rows), heads, room, size)
        used = self.store[..., : self.used, :]
        fresh[..., : self.used, :] = used if rows is None else used.index_select(2, rows)
        self.store, self.layers = fresh, fresh.unbind()


def _attention(width: int, parts: int) -> tuple[nn.LayerNorm, nn.Linear, nn.Linear]:
    return nn.LayerNorm(width), nn.Linear(width, parts * width), nn.Linear(width, width)
