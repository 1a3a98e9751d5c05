"""A Vision Transformer (ViT)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.pixels import patch_grid, scale_pixels
from polymodal.nn.encoders.position_embedding import PositionEmbedding, check_heads
from polymodal.nn.encoders.token_pooling import all_valid_mask
from polymodal.nn.layers.transformer import TransformerBlock


@register
class ViT(Encoder):
    """A pre-norm Transformer over square patches (Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for
    Image Recognition at Scale", 2021), without a class token.

        x_0 = W patch + P ;  x_l = Block_l(x_{l-1}) ;  tokens = LN(x_L)

    Each patch gives one token, in row-major order.

    Raises:
        RecipeError: `patch_size` does not divide the image size, or `num_heads` does not divide the hidden size.
    """

    class Options(EncoderOptions):
        name: Literal["vit"] = "vit"
        patch_size: int = sized_field(8, 16, 16, ge=1)
        """Patch size in pixels; it must divide the height and width of the image."""
        num_layers: int = sized_field(3, 6, 12, ge=1, le=48)
        """Number of blocks."""
        num_heads: int = sized_field(4, 4, 8, ge=1)
        """Number of attention heads; it must divide the hidden size."""
        position_embedding: Literal["learned", "sincos"] = "sincos"
        """Position embedding: learned vectors, or fixed sinusoids of row and column."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate."""

    modality: ClassVar[str] = "image"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.num_heads, width)
        patch = options.patch_size
        rows, columns = patch_grid(shape, patch, "an image")
        self.width, self.patch, self.grid = width, patch, (rows, columns)
        self.project = nn.Linear(patch * patch * shape["channels"], width)
        self.positions = PositionEmbedding(options.position_embedding, rows * columns, width, grid=(rows, columns))
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.num_heads, options.dropout) for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, 3, height, width]` uint8 -> `[items, rows * columns, width]`."""
        x = scale_pixels(patchify(data["pixels"], self.patch), self.project.weight.dtype)
        x = self.dropout(self.positions(self.project(x)))  # [items, rows * columns, width]
        for block in self.blocks:
            x = block(x)
        return self.norm(x), all_valid_mask(x)

    def token_grid(self, length: int) -> tuple[int, int]:
        """The rows and columns of the patches."""
        return self.grid


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """`[items, channels, height, width]` -> `[items, patches, patch * patch * channels]`, patches in row-major order.

    The 8-bit pixels are only copied once, without arithmetic, so the speed is that of memory.
    """
    items, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    channels_last = pixels.permute(0, 2, 3, 1).reshape(items, rows, patch, columns, patch, channels)
    return channels_last.transpose(2, 3).reshape(items, rows * columns, patch * patch * channels)
