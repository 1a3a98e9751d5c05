"""The light decoder of masked objectives: what lies at a place, told from tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polymodal.core.types import Tokens
from polymodal.nn.layers.transformer import CrossBlock

#: Waves in the code of a place; their periods grow from `SHORTEST` places to four times as many as there are.
WAVES, SHORTEST = 16, 3.0
HEADS = 4


class PositionQueryDecoder(nn.Module):
    """One query for each place asked for, which reads tokens by cross-attention, layer by layer:

        q_0 = W code(place) ;  m = [V t + W code(place of t); V t' + k; ..]
        q_l = Cross_l(q_{l-1} <- m) ;  result = LN(q_L)

    with the tokens t of the item itself, whose places are told by the same code, and t' of other inputs, each with a
    learned vector k. It asks for no number or kind of tokens, so any encoder serves; queries do not see each other, so
    what is told of a place does not depend on which others are asked for. The code of a place is of sines and cosines
    of its coordinates.

    width: of the decoder; tokens: of the tokens
    at: `[places, d]`, the coordinates of all places
    others: number of other inputs
    """

    def __init__(self, at: Tensor, *, tokens: int, width: int, layers: int, others: int = 0) -> None:
        super().__init__()
        heads = next(count for count in range(min(HEADS, width), 0, -1) if width % count == 0)
        self.place = nn.Linear(2 * WAVES * at.shape[1], width)
        self.read = nn.Linear(tokens, width)
        self.kinds = nn.Parameter(0.3 * torch.randn(others, width)) if others else None
        self.blocks = nn.ModuleList(CrossBlock(width, heads, 0.0) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.longest = 4.0 * max(4.0, float(at.max()))

    def forward(self, at: Tensor, own: Tokens, own_at: Tensor | None, others: list[Tokens]) -> Tensor:
        """What is told of the places `at [rows, queries, d]`: `[rows, queries, width]`.

        own: tokens of the item, which lie at `own_at [rows, tokens, d]`; None: nobody knows where
        """
        read = self.read(own.features)
        contexts = [read if own_at is None else read + self._code(own_at)]
        if self.kinds is not None:
            contexts += [self.read(one.features) + kind for one, kind in zip(others, self.kinds, strict=True)]
        context = torch.cat(contexts, 1)
        mask = torch.cat([own.mask, *(one.mask for one in others)], 1)
        query = self._code(at)
        for block in self.blocks:
            query = block(query, context, mask)
        return self.norm(query)

    def _code(self, at: Tensor) -> Tensor:
        steps = torch.linspace(0, 1, WAVES)
        period = SHORTEST * torch.exp(steps * math.log(self.longest / SHORTEST))
        angle = (2 * math.pi * at.unsqueeze(-1) / period).flatten(2)
        return self.place(torch.cat([angle.sin(), angle.cos()], -1))
