"""Learned queries between frozen encoders (Q-Former)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.base import token_output
from polymodal.nn.fusion.token import ModalityEmbeddings, TokenFusion, TokenOptions
from polymodal.nn.layers.attention import MultiHeadAttention
from polymodal.nn.layers.transformer import FeedForward


@register
class QFormer(TokenFusion):
    """Learned queries share self-attention with the text and cross-attend to the other inputs in every second layer.

        [Q; T] = [Q; T] + SA(LN [Q; T]) ;  in layers 0, 2, ..: Q = Q + CA(LN Q <- LN X)
        Q = Q + FFN_q(LN Q) ;  T = T + FFN_t(LN T)
        result: the mean of LN(Q)

    Li et al., "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and Large Language Models",
    2023. X are the tokens of all inputs except the text. A missing input is masked out, including the text; in a row
    without any input, the queries attend only to each other.

    Raises:
        RecipeError: `text_input` is not an input, or is the only input.
    """

    class Options(TokenOptions):
        name: Literal["qformer"] = "qformer"
        num_queries: int = sized_field(8, 16, 32, ge=1, le=1024)
        """Number of learned queries."""
        text_input: str | None = "auto"
        """The input whose tokens share self-attention with the queries. `auto`: the last input if there are several,
        else none. null: none."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.text = _text_input(options.text_input, inputs)
        self.context_inputs = [name for name in inputs if name != self.text]
        self.typed = ModalityEmbeddings(self.context_inputs, width)
        self.queries = nn.Parameter(torch.randn(1, options.num_queries, width) * 0.02)
        self.layers = nn.ModuleList(
            QFormerLayer(
                width,
                options,
                cross=number % 2 == 0,
                text=self.text is not None and number < options.num_layers - 1,
            )
            for number in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        context = torch.cat(self.typed(tokens), dim=1)  # [batch, length, width]
        mask = torch.cat(self.typed.present_masks(tokens), dim=1)
        present = self.presence(tokens).any(1)
        queries = self.queries.expand(present.shape[0], -1, -1)  # [batch, queries, width]
        text, text_mask = context[:, :0], mask[:, :0]
        if self.text is not None:
            text_tokens = tokens[self.text]
            text, text_mask = text_tokens.features, text_tokens.mask & text_tokens.present.unsqueeze(1)
        for layer in self.layers:
            queries, text = layer(queries, text, text_mask, context, mask)
        return [token_output("joint", self.norm(queries), mask.new_ones(queries.shape[:2]), present)]


class QFormerLayer(nn.Module):
    """One layer of the Q-Former.

    cross: whether the queries cross-attend to the other inputs
    text: whether the text is passed to a next layer
    """

    def __init__(self, width: int, options: QFormer.Options, *, cross: bool, text: bool) -> None:
        super().__init__()
        heads, dropout = options.num_heads, options.dropout
        self.self_norm, self.self_attention = nn.LayerNorm(width), MultiHeadAttention(width, heads, dropout)
        self.cross = NormalizedCrossAttention(width, heads, dropout) if cross else None
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


class NormalizedCrossAttention(nn.Module):
    """Cross-attention with layer normalization of both inputs, CA(LN Q <- LN X)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query_norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        return self.attention(self.query_norm(queries), self.context_norm(context), mask)


def _text_input(text: str | None, inputs: list[str]) -> str | None:
    """The name of the input that shares self-attention with the queries."""
    if text is None:
        return None
    if text == "auto" and text not in inputs:
        return inputs[-1] if len(inputs) > 1 else None
    if text not in inputs:
        raise RecipeError("text_input", f"unknown input {text!r}; {did_you_mean(text, inputs)}")
    if len(inputs) == 1:
        raise RecipeError(
            "text_input", f"{text!r} is the only input, so the queries have no other input to attend to; set null"
        )
    return text
