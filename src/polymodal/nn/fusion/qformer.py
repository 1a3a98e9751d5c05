"""Learned queries between frozen encoders (Q-Former)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError, nearest
from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import Tokens, View
from polymodal.nn.fusion.base import token_view
from polymodal.nn.fusion.token import TokenFusion, TokenOptions, TypedTokens
from polymodal.nn.layers.attention import MultiHeadAttention
from polymodal.nn.layers.transformer import FeedForward


@register
class QFormer(TokenFusion):
    """Learned queries share self-attention with the text and read the other inputs in every second layer.

        [Q; T] = [Q; T] + SA(LN [Q; T]) ;  in layers 0, 2, ..: Q = Q + CA(LN Q <- LN X)
        Q = Q + FFN_q(LN Q) ;  T = T + FFN_t(LN T)
        result: the mean of LN(Q)

    Li et al., "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and Large
    Language Models", 2023. X are the tokens of all inputs but the text. A missing input is left out, the text
    included; a row without any input keeps the queries.

    Raises:
        RecipeError: `text` is not an input, or is the only one.
    """

    class Options(TokenOptions):
        name: Literal["qformer"] = "qformer"
        queries: int = sized(8, 16, 32, ge=1, le=1024)
        """Number of learned queries."""
        text: str | None = "auto"
        """The input whose tokens share self-attention with the queries. `auto`: the last of several
        inputs, none of one; null: none."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.text = _text_input(options.text, inputs)
        self.seen = [name for name in inputs if name != self.text]
        self.typed = TypedTokens(self.seen, width)
        self.queries = nn.Parameter(torch.randn(1, options.queries, width) * 0.02)
        self.layers = nn.ModuleList(
            QFormerLayer(
                width,
                options,
                cross=number % 2 == 0,
                text=self.text is not None and number < options.layers - 1,
            )
            for number in range(options.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        context = torch.cat(self.typed(tokens), dim=1)
        mask = torch.cat(self.typed.present_masks(tokens), dim=1)
        present = self.presence(tokens).any(1)
        queries = self.queries.expand(len(present), -1, -1)
        text, text_mask = context[:, :0], mask[:, :0]
        if self.text is not None:
            spoken = tokens[self.text]
            text, text_mask = spoken.features, spoken.mask & spoken.present.unsqueeze(1)
        for layer in self.layers:
            queries, text = layer(queries, text, text_mask, context, mask)
        return [token_view("joint", self.norm(queries), mask.new_ones(queries.shape[:2]), present)]


class QFormerLayer(nn.Module):
    """One layer. `cross`: the queries read the other inputs. `text`: the text goes on to a next layer."""

    def __init__(self, width: int, options: QFormer.Options, *, cross: bool, text: bool) -> None:
        super().__init__()
        heads, dropout = options.heads, options.dropout
        self.self_norm, self.self_attention = nn.LayerNorm(width), MultiHeadAttention(width, heads, dropout)
        self.cross = Reading(width, heads, dropout) if cross else None
        self.feed = nn.Sequential(nn.LayerNorm(width), FeedForward(width, dropout))
        self.text_feed = nn.Sequential(nn.LayerNorm(width), FeedForward(width, dropout)) if text else None
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Tensor, text: Tensor, text_mask: Tensor, context: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        count = queries.shape[1]
        x = torch.cat([queries, text], dim=1)
        real = torch.cat([text_mask.new_ones(queries.shape[:2]), text_mask], dim=1)
        x = x + self.dropout(self.self_attention(self.self_norm(x), mask=real))
        queries, text = x[:, :count], x[:, count:]
        if self.cross is not None:
            queries = queries + self.dropout(self.cross(queries, context, mask))
        queries = queries + self.dropout(self.feed(queries))
        if self.text_feed is not None:
            text = text + self.dropout(self.text_feed(text))
        return queries, text


class Reading(nn.Module):
    """Normalised cross-attention, CA(LN Q <- LN X)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query_norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        return self.attention(self.query_norm(queries), self.context_norm(context), mask)


def _text_input(text: str | None, inputs: list[str]) -> str | None:
    """Which input shares self-attention with the queries."""
    if text is None:
        return None
    if text == "auto" and text not in inputs:
        return inputs[-1] if len(inputs) > 1 else None
    if text not in inputs:
        raise RecipeError("text", f"there is no input {text!r}; {nearest(text, inputs)}")
    if len(inputs) == 1:
        raise RecipeError("text", f"{text!r} is the only input: the queries have nothing else to read")
    return text
