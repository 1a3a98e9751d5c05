"""A Conformer over the log-mel spectrogram: blocks of attention and convolution."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.frame_convolution import FrameConvolution, frame_times
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions
from polymodal.nn.encoders.position_embedding import check_heads
from polymodal.nn.layers.attention import MultiHeadAttention
from polymodal.nn.layers.transformer import positions_on
from polymodal.runtime.host_reads import can_read


class ConvolutionModule(nn.Module):
    """y = W2 SiLU(LN(depthwise(GLU(W1 LN x)))): a depthwise convolution over neighboring frames.

    The paper uses a batch norm after the depthwise convolution. A layer norm is used here, since its statistics do not
    include padding.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm, self.expand = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.middle_norm, self.out = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = F.glu(self.expand(self.norm(x)))
        if mask is not None:
            x = x * mask.unsqueeze(-1).to(x.dtype)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.out(F.silu(self.middle_norm(x)))


class ConformerBlock(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer, each with a residual connection:

    x' = x + F1(x) / 2 ;  x'' = x' + SA(LN x') ;  x''' = x'' + Conv(x'') ;  y = LN(x''' + F2(x''') / 2)
    """

    def __init__(self, width: int, heads: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.feed_forward_before, self.feed_forward_after = _feed_forward(width, dropout), _feed_forward(width, dropout)
        self.attention_norm, self.attention = nn.LayerNorm(width), MultiHeadAttention(width, heads, dropout)
        self.convolution = ConvolutionModule(width, kernel)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + 0.5 * self.dropout(self.feed_forward_before(x))
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask))
        x = x + self.dropout(self.convolution(x, mask))
        return self.norm(x + 0.5 * self.dropout(self.feed_forward_after(x)))


def _feed_forward(width: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
    )


@register
class Conformer(Encoder):
    """Convolutions that subsample time by 4, then blocks of attention (long range) and convolution (short range)
    (Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", 2020).

    A token covers 4 frames. Positions are fixed sinusoids, where the paper uses relative positions in the attention;
    the convolutions provide the relative order of neighbors.

    Raises:
        RecipeError: `num_heads` does not divide the hidden size, or an option of `LogMel` is invalid.
    """

    class Options(LogMelOptions):
        name: Literal["conformer"] = "conformer"
        channels: int = sized_field(16, 32, 48, ge=1)
        """Channels of the two subsampling convolutions."""
        num_layers: int = sized_field(2, 4, 8, ge=1, le=48)
        """Number of blocks."""
        num_heads: int = sized_field(4, 4, 8, ge=1)
        """Number of attention heads; it must divide the hidden size."""
        kernel_radius: int = sized_field(4, 7, 15, ge=1, le=50)
        """Tokens on each side that the convolution of a block covers: its kernel size is `2 * kernel_radius + 1`."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate."""

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.num_heads, width)
        self.width = width
        self.mel = LogMel(options, shape["rate"])
        self.subsampling = nn.ModuleList(
            FrameConvolution(before, options.channels, (3, 3), (2, 2))
            for before in (shape["channels"], options.channels)
        )
        self.subsampling.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.project = nn.Linear(options.channels * -(-options.n_mels // 4), width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            ConformerBlock(width, options.num_heads, 2 * options.kernel_radius + 1, options.dropout)
            for _ in range(options.num_layers)
        )

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, `length [items]` -> `[items, frames / 4, width]`."""
        mel, length = self.mel(data["values"], data["length"])  # [items, channels, frames, mels]
        x = mel.to(self.project.weight.dtype).contiguous(memory_format=torch.channels_last)
        for layer in self.subsampling:
            x, length = layer(x, length)
        x = self.project(x.permute(0, 2, 1, 3).flatten(2))  # [items, frames / 4, width]
        x = self.dropout(x + positions_on(x.device, x.shape[1], self.width).to(x.dtype))
        mask = length_mask(length, x.shape[1])
        attention_mask = None if can_read(mask) and bool(mask.all()) else mask
        for block in self.blocks:
            x = block(x, attention_mask)
        return x, mask

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The time of the center frame of each token, in seconds."""
        return frame_times(data["length"], length, 0.0, 4 * self.mel.hop_seconds)
