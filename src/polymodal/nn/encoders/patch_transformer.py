"""A Transformer over patches of time."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.positions import Positions, check_heads
from polymodal.nn.encoders.series_steps import steps_of, window_times
from polymodal.nn.layers.transformer import TransformerBlock


@register
class PatchTransformer(Encoder):
    """Self-attention over patches of neighbouring steps (Nie et al., "A Time Series is Worth 64 Words: Long-term
    Forecasting with Transformers", 2023), normalisation first.

        x_0[i] = W [steps s i .. s i + p - 1 of all channels] + b + P[i] ;  x_l = Block_l(x_{l-1}) ;  tokens = LN(x_L)

    with patches of p steps, one every s = p / 2. The published network reads every channel by itself, for
    forecasting; here a patch holds all channels, since what tells classes apart often lies between them. The last
    patch that begins within the series is filled with gaps.
    """

    class Options(EncoderOptions):
        name: Literal["patch_transformer"] = "patch_transformer"
        patch: int | None = Field(default=None, ge=1)
        """Steps in a patch. Silent: a sixteenth of the longest series, from 2 to 16."""
        layers: int = sized(2, 3, 6, ge=1, le=48)
        """Number of blocks."""
        heads: int = sized(4, 4, 8, ge=1)
        """Attention heads; they must divide the common width."""
        positions: Literal["learned", "sincos"] = "sincos"
        """How a patch's place is told: by learned vectors, or by fixed sines and cosines."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""

    modality: ClassVar[str] = "series"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.heads, width)
        self.width = width
        self.patch = options.patch or min(16, max(2, shape["steps"] // 16))
        self.stride = max(1, self.patch // 2)
        self.embed = nn.Linear(2 * shape["channels"] * self.patch, width)
        self.positions = Positions(options.positions, -(-shape["steps"] // self.stride), width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.heads, options.dropout) for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values` and `observed [items, steps, channels]`, `length [items]` -> `[items, patches, width]`."""
        mask = length_mask(data["length"], data["values"].shape[1])[:, :: self.stride]
        steps = steps_of(data, self.embed.weight.dtype)
        missing = (mask.shape[1] - 1) * self.stride + self.patch - steps.shape[1]
        patches = functional.pad(steps, (0, 0, 0, max(0, missing))).unfold(1, self.patch, self.stride)
        x = self.dropout(self.positions(self.embed(patches[:, : mask.shape[1]].flatten(2))))
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        return window_times(data, length, self.patch, self.stride)
