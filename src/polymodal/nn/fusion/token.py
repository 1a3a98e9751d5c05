"""What the fusion methods that see whole token sequences share."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized
from polymodal.core.types import Tokens, View
from polymodal.nn.fusion.base import Fusion, FusionOptions


class TokenOptions(FusionOptions):
    """Options that every token method has."""

    layers: int = sized(2, 4, 6, ge=1, le=48)
    """Number of Transformer layers."""
    heads: int = sized(4, 8, 8, ge=1, le=64)
    """Attention heads; they must divide the common width."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of attention weights and of each layer's result dropped in training."""


class TokenFusion(Fusion):
    """Base of the methods that see whole token sequences.

    Raises:
        RecipeError: the heads do not divide the width.
    """

    def __init__(self, options: TokenOptions, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if width % options.heads:
            fitting = ", ".join(str(n) for n in range(1, min(width, 64) + 1) if width % n == 0)
            problem = f"{options.heads} heads do not divide the width {width}; choose from {fitting}"
            raise RecipeError("heads", problem)

    def presence(self, tokens: dict[str, Tokens]) -> Tensor:
        """Which inputs each row has, `[batch, inputs]` bool."""
        return torch.stack([tokens[name].present for name in self.inputs], dim=1)


class TypedTokens(nn.Module):
    """Adds a learned vector to the tokens of each input that says which input they come from."""

    def __init__(self, inputs: list[str], width: int) -> None:
        super().__init__()
        self.inputs = list(inputs)
        self.types = nn.Parameter(torch.randn(len(inputs), width) * 0.02)

    def forward(self, tokens: dict[str, Tokens]) -> list[Tensor]:
        """The features of each input in order, `[batch, length_m, width]`."""
        return [tokens[name].features + kind for name, kind in zip(self.inputs, self.types.unbind(), strict=True)]

    def present_masks(self, tokens: dict[str, Tokens]) -> list[Tensor]:
        """The real tokens of each input, `[batch, length_m]` bool; none where the input is missing."""
        return [tokens[name].mask & tokens[name].present.unsqueeze(1) for name in self.inputs]


class ConcatReadout(nn.Module):
    """One vector from several streams: the mean of each, concatenated and projected.

        z = W [pool(LN S_1); ..; pool(LN S_n)] + b

    W is held in blocks, one for each stream. A block also maps its stream's tokens to the common width, so
    that decoders that read tokens have them.
    """

    def __init__(self, streams: int, stream_width: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(stream_width) for _ in range(streams))
        self.blocks = nn.ModuleList(nn.Linear(stream_width, width) for _ in range(streams))

    def forward(self, streams: list[Tensor], masks: list[Tensor], present: Tensor) -> View:
        """`streams [batch, length_n, stream_width]`, `masks [batch, length_n]`, `present [batch]`."""
        mapped = [block(norm(stream)) for block, norm, stream in zip(self.blocks, self.norms, streams, strict=True)]
        pooled = torch.zeros_like(mapped[0][:, 0])
        for features, mask in zip(mapped, masks, strict=True):
            pooled = pooled + Tokens(features, mask, present).pooled()
        tokens = Tokens(torch.cat(mapped, 1), torch.cat(masks, 1), present)
        return View("joint", tokens, pooled, present.to(pooled.dtype))
