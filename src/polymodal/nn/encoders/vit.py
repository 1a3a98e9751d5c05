"""A vision Transformer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import patch_grid, to_unit
from polymodal.nn.encoders.positions import Positions, check_heads
from polymodal.nn.encoders.tokens import all_real
from polymodal.nn.layers.transformer import TransformerBlock


@register
class ViT(Encoder):
    """Self-attention over square patches (Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers
    for Image Recognition at Scale", 2021), normalisation first, without a class token.

        x_0 = W patch + P ;  x_l = Block_l(x_{l-1}) ;  tokens = LN(x_L)

    Each patch is a token, row by row.

    Raises:
        RecipeError: `patch` does not divide the image, or `heads` not the common width.
    """

    class Options(EncoderOptions):
        name: Literal["vit"] = "vit"
        patch: int = sized(8, 16, 16, ge=1)
        """Side of a patch in pixels; it must divide the side of the image."""
        layers: int = sized(3, 6, 12, ge=1, le=48)
        """Number of blocks."""
        heads: int = sized(4, 4, 8, ge=1)
        """Attention heads; they must divide the common width."""
        positions: Literal["learned", "sincos"] = "sincos"
        """How a patch's place is told: by learned vectors, or by fixed sines and cosines of its row and
        column.
        """
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""

    modality: ClassVar[str] = "image"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.heads, width)
        patch = options.patch
        rows, columns = patch_grid(shape, patch, "an image")
        self.width, self.patch = width, patch
        self.project = nn.Linear(patch * patch * shape["channels"], width)
        self.positions = Positions(options.positions, rows * columns, width, grid=(rows, columns))
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.heads, options.dropout) for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, 3, height, width]` uint8 -> `[items, rows * columns, width]`."""
        x = to_unit(patchify(data["pixels"], self.patch), self.project.weight.dtype)
        x = self.dropout(self.positions(self.project(x)))
        for block in self.blocks:
            x = block(x)
        return self.norm(x), all_real(x)


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """`[items, channels, height, width]` -> `[items, patches, patch * patch * channels]`, patches row by row.

    One copy of the pixels, and none of them computed: as fast in bytes as memory is.
    """
    items, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    last = pixels.permute(0, 2, 3, 1).reshape(items, rows, patch, columns, patch, channels)
    return last.transpose(2, 3).reshape(items, rows * columns, patch * patch * channels)
