"""Light decoder of masked objectives: content of a position from tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polymodal.core.types import Tokens
from polymodal.nn.layers.transformer import CrossAttentionBlock

#: Sinusoids in a position code. Their periods grow from `MIN_PERIOD` positions to four times the number of positions.
NUM_SINUSOIDS, MIN_PERIOD = 16, 3.0
HEADS = 4


class PositionQueryDecoder(nn.Module):
    """One query for each queried position, which reads tokens by cross-attention, layer by layer:

        q_0 = W code(position) ;  m = [V t + W code(position of t); V t' + k; ..]
        q_l = Cross_l(q_{l-1} <- m) ;  result = LN(q_L)

    with the tokens t of the item, whose positions have the same code, and t' of other inputs, each with a learned
    vector k. It works with any number and kind of tokens, and so with any encoder. Queries do not attend to each other,
    so that the prediction of a position does not depend on the other queried positions. A position code consists of
    sines and cosines of the coordinates.

    at: coordinates of all positions, `[positions, d]`
    tokens: width of the tokens
    width: width of the decoder
    others: number of other inputs
    """

    def __init__(self, at: Tensor, *, tokens: int, width: int, layers: int, others: int = 0) -> None:
        super().__init__()
        heads = next(count for count in range(min(HEADS, width), 0, -1) if width % count == 0)
        self.position = nn.Linear(2 * NUM_SINUSOIDS * at.shape[1], width)
        self.token_projection = nn.Linear(tokens, width)
        self.input_embeddings = nn.Parameter(0.3 * torch.randn(others, width)) if others else None
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, heads, 0.0) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.max_period = 4.0 * max(4.0, float(at.max()))

    def forward(self, at: Tensor, own: Tokens, own_at: Tensor | None, others: list[Tokens]) -> Tensor:
        """Decode the positions `at [rows, queries, d]`: `[rows, queries, width]`.

        own: tokens of the item
        own_at: coordinates of these tokens, `[rows, tokens, d]`; None: unknown
        """
        projected = self.token_projection(own.features)
        contexts = [projected if own_at is None else projected + self._code(own_at)]
        if self.input_embeddings is not None:
            contexts += [
                self.token_projection(tokens.features) + embedding
                for tokens, embedding in zip(others, self.input_embeddings, strict=True)
            ]
        context = torch.cat(contexts, 1)
        mask = torch.cat([own.mask, *(one.mask for one in others)], 1)
        query = self._code(at)
        for block in self.blocks:
            query = block(query, context, mask)
        return self.norm(query)

    def _code(self, at: Tensor) -> Tensor:
        steps = torch.linspace(0, 1, NUM_SINUSOIDS, device=at.device)
        period = MIN_PERIOD * torch.exp(steps * math.log(self.max_period / MIN_PERIOD))
        angle = (2 * math.pi * at.unsqueeze(-1) / period).flatten(2)
        return self.position(torch.cat([angle.sin(), angle.cos()], -1))
