"""Base class and layers shared by the fusion methods over token sequences."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized_field
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.base import Fusion, FusionOptions


class TokenOptions(FusionOptions):
    """Options of every token-level fusion."""

    num_layers: int = sized_field(2, 4, 6, ge=1, le=48)
    """Number of Transformer layers."""
    num_heads: int = sized_field(4, 8, 8, ge=1, le=64)
    """Number of attention heads; it must divide `hidden_size`."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout probability of attention weights and of the output of each sublayer."""


class TokenFusion(Fusion):
    """Base of the methods that fuse whole token sequences.

    Raises:
        RecipeError: the number of heads does not divide the width.
    """

    def __init__(self, options: TokenOptions, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if width % options.num_heads:
            fitting = ", ".join(str(n) for n in range(1, min(width, 64) + 1) if width % n == 0)
            problem = f"{options.num_heads} heads do not divide the hidden size {width}; use one of {fitting}"
            raise RecipeError("num_heads", problem)

    def presence(self, tokens: dict[str, Tokens]) -> Tensor:
        """The inputs that each row has, `[batch, inputs]` bool."""
        return torch.stack([tokens[name].present for name in self.inputs], dim=1)


class ModalityEmbeddings(nn.Module):
    """Adds a learned embedding of the input's identity to the tokens of each input."""

    def __init__(self, inputs: list[str], width: int) -> None:
        super().__init__()
        self.inputs = list(inputs)
        self.types = nn.Parameter(torch.randn(len(inputs), width) * 0.02)

    def forward(self, tokens: dict[str, Tokens]) -> list[Tensor]:
        """The features of each input in order, `[batch, length_m, width]`."""
        return [tokens[name].features + kind for name, kind in zip(self.inputs, self.types.unbind(), strict=True)]

    def present_masks(self, tokens: dict[str, Tokens]) -> list[Tensor]:
        """Mask of the real tokens of each input, `[batch, length_m]` bool; False everywhere if the input is missing."""
        return [tokens[name].mask & tokens[name].present.unsqueeze(1) for name in self.inputs]


class ConcatReadout(nn.Module):
    """One vector from several streams: the mean of each stream, concatenated and projected.

        z = W [pool(LN S_1); ..; pool(LN S_n)] + b

    W consists of one block per stream. A block also maps its stream's tokens to the common width, for decoders that
    attend to tokens.
    """

    def __init__(self, streams: int, stream_width: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(stream_width) for _ in range(streams))
        self.blocks = nn.ModuleList(nn.Linear(stream_width, width) for _ in range(streams))

    def forward(self, streams: list[Tensor], masks: list[Tensor], present: Tensor) -> FusionOutput:
        """`streams [batch, length_n, stream_width]`, `masks [batch, length_n]`, `present [batch]`."""
        mapped = [block(norm(stream)) for block, norm, stream in zip(self.blocks, self.norms, streams, strict=True)]
        pooled = torch.zeros_like(mapped[0][:, 0])
        for features, mask in zip(mapped, masks, strict=True):
            pooled = pooled + Tokens(features, mask, present).pooled()
        tokens = Tokens(torch.cat(mapped, 1), torch.cat(masks, 1), present)
        return FusionOutput("joint", tokens, pooled, present.to(pooled.dtype))
