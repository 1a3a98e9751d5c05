"""A Transformer encoder of texts."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.position_embedding import PositionEmbedding, check_heads
from polymodal.nn.layers.transformer import TransformerBlock


@register
class Transformer(Encoder):
    """A pre-norm Transformer over the tokens of a text (Vaswani et al., "Attention Is All You Need", 2017).

        x_0 = E[token ids] + P ;  x_l = Block_l(x_{l-1}) ;  tokens = LN(x_L)

    Each position gives one token.
    """

    class Options(EncoderOptions):
        name: Literal["transformer"] = "transformer"
        num_layers: int = sized_field(2, 4, 8, ge=1, le=48)
        """Number of blocks."""
        num_heads: int = sized_field(4, 4, 8, ge=1)
        """Number of attention heads; it must divide the hidden size."""
        position_embedding: Literal["learned", "sincos"] = "sincos"
        """Position embedding: learned vectors or fixed sinusoids."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate."""

    modality: ClassVar[str] = "text"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.num_heads, width)
        self.width = width
        self.embedding = nn.Embedding(shape["vocabulary"], width)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.positions = PositionEmbedding(options.position_embedding, shape["length"], width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.num_heads, options.dropout) for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, length]`, `length [items]` -> `[items, length, width]`."""
        mask = length_mask(data["length"], data["values"].shape[1])
        x = self.dropout(self.positions(self.embedding(data["values"])))  # [items, length, width]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask
