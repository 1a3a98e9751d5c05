"""A Transformer over patches of a time series."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.position_embedding import PositionEmbedding, check_heads
from polymodal.nn.encoders.step_pooling import step_features, window_times
from polymodal.nn.layers.transformer import TransformerBlock


@register
class PatchTransformer(Encoder):
    """A pre-norm Transformer over patches of neighboring steps (Nie et al., "A Time Series is Worth 64 Words: Long-term
    Forecasting with Transformers", 2023).

        x_0[i] = W [steps s i .. s i + p - 1 of all channels] + b + P[i] ;  x_l = Block_l(x_{l-1}) ;  tokens = LN(x_L)

    with patches of p steps and a stride of s = p / 2. The published network processes each channel separately, for
    forecasting; here a patch holds all channels, since classes often differ in the relation between channels. The last
    patch that starts within the series is padded with missing values.
    """

    class Options(EncoderOptions):
        name: Literal["patch_transformer"] = "patch_transformer"
        patch_size: int | None = Field(default=None, ge=1)
        """Patch size in steps. Default: a sixteenth of the longest series, between 2 and 16."""
        num_layers: int = sized_field(2, 3, 6, ge=1, le=48)
        """Number of blocks."""
        num_heads: int = sized_field(4, 4, 8, ge=1)
        """Number of attention heads; it must divide the hidden size."""
        position_embedding: Literal["learned", "sincos"] = "sincos"
        """Position embedding: learned vectors or fixed sinusoids."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate."""

    modality: ClassVar[str] = "time_series"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.num_heads, width)
        self.width = width
        self.patch = options.patch_size or min(16, max(2, shape["steps"] // 16))
        self.stride = max(1, self.patch // 2)
        self.embed = nn.Linear(2 * shape["channels"] * self.patch, width)
        self.positions = PositionEmbedding(options.position_embedding, -(-shape["steps"] // self.stride), width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.num_heads, options.dropout) for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values` and `observed [items, steps, channels]`, `length [items]` -> `[items, patches, width]`."""
        mask = length_mask(data["length"], data["values"].shape[1])[:, :: self.stride]
        steps = step_features(data, self.embed.weight.dtype)  # [items, steps, 2 * channels]
        padding = (mask.shape[1] - 1) * self.stride + self.patch - steps.shape[1]
        patches = functional.pad(steps, (0, 0, 0, max(0, padding))).unfold(1, self.patch, self.stride)
        x = self.dropout(self.positions(self.embed(patches[:, : mask.shape[1]].flatten(2))))
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        return window_times(data, length, self.patch, self.stride)
