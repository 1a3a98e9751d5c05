"""A Transformer text encoder."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.positions import Positions, check_heads
from polymodal.nn.layers.transformer import TransformerBlock


@register
class Transformer(Encoder):
    """Self-attention over the symbols (Vaswani et al., "Attention Is All You Need", 2017), normalisation
    first.

        x_0 = E[symbols] + P ;  x_l = Block_l(x_{l-1}) ;  tokens = LN(x_L)

    Each position is a token.
    """

    class Options(EncoderOptions):
        name: Literal["transformer"] = "transformer"
        layers: int = sized(2, 4, 8, ge=1, le=48)
        """Number of blocks."""
        heads: int = sized(4, 4, 8, ge=1)
        """Attention heads; they must divide the common width."""
        positions: Literal["learned", "sincos"] = "sincos"
        """How a symbol's place is told: by learned vectors, or by fixed sines and cosines."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""

    modality: ClassVar[str] = "text"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.heads, width)
        self.width = width
        self.embedding = nn.Embedding(shape["vocabulary"], width)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.positions = Positions(options.positions, shape["length"], width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.heads, options.dropout) for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, length]`, `length [items]` -> `[items, length, width]`."""
        mask = length_mask(data["length"], data["values"].shape[1])
        x = self.dropout(self.positions(self.embedding(data["values"])))
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask
