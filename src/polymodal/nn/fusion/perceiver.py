"""Learned latent tokens that cross-attend to all inputs (Perceiver)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.base import token_output
from polymodal.nn.fusion.token import ModalityEmbeddings, TokenFusion, TokenOptions
from polymodal.nn.layers.transformer import CrossAttentionBlock, TransformerBlock


@register
class Perceiver(TokenFusion):
    """A fixed number of learned latent tokens cross-attends to all tokens of all inputs, followed by self-attention.

        repeat R times:  Z = Cross(Z <- [X_1 + t_1; ..; X_M + t_M]) ;  Z = Block_K(.. Block_1(Z))
        result: the mean of LN(Z)

    Jaegle et al., "Perceiver: General Perception with Iterative Attention", 2021. Linear in the number of tokens. The
    iterations share their weights. A missing input is masked out; in a row without any input, the latents attend only
    to each other.
    """

    class Options(TokenOptions):
        name: Literal["perceiver"] = "perceiver"
        num_latents: int = sized_field(8, 32, 64, ge=1, le=4096)
        """Number of latent tokens."""
        num_layers: int = sized_field(2, 4, 6, ge=1, le=48)
        """Number of self-attention layers over the latents after each cross-attention."""
        num_iterations: int = Field(default=1, ge=1, le=16)
        """Number of cross-attention iterations over the inputs, with shared weights."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.repeats = options.num_iterations
        self.typed = ModalityEmbeddings(inputs, width)
        self.latents = nn.Parameter(torch.randn(1, options.num_latents, width) * 0.02)
        self.cross_attention = CrossAttentionBlock(width, options.num_heads, options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.num_heads, options.dropout) for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        context = torch.cat(self.typed(tokens), dim=1)  # [batch, length, width]
        mask = torch.cat(self.typed.present_masks(tokens), dim=1)
        present = self.presence(tokens).any(1)
        x = self.latents.expand(present.shape[0], -1, -1)  # [batch, latents, width]
        for _ in range(self.repeats):
            x = self.cross_attention(x, context, mask)
            for block in self.blocks:
                x = block(x)
        return [token_output("joint", self.norm(x), mask.new_ones(x.shape[:2]), present)]
