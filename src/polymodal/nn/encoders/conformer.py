"""Attention and convolution in one block."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.frames import FrameConvolution, frame_times
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions
from polymodal.nn.encoders.positions import check_heads
from polymodal.nn.layers.attention import MultiHeadAttention
from polymodal.nn.layers.transformer import sinusoidal_positions


class ConvolutionModule(nn.Module):
    """y = W2 SiLU(LN(depthwise(GLU(W1 LN x)))): what is near in time, channel by channel.

    The paper normalises the middle with a batch norm; a layer norm does not see padding.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm, self.spread = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.middle, self.out = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = F.glu(self.spread(self.norm(x)))
        if mask is not None:
            x = x * mask.unsqueeze(-1).to(x.dtype)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.out(F.silu(self.middle(x)))


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each added to what it read:

    x' = x + F1(x) / 2 ;  x'' = x' + SA(LN x') ;  x''' = x'' + Conv(x'') ;  y = LN(x''' + F2(x''') / 2)
    """

    def __init__(self, width: int, heads: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.before, self.after = _feed_forward(width, dropout), _feed_forward(width, dropout)
        self.attention_norm, self.attention = nn.LayerNorm(width), MultiHeadAttention(width, heads, dropout)
        self.convolution = ConvolutionModule(width, kernel)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + 0.5 * self.dropout(self.before(x))
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask))
        x = x + self.dropout(self.convolution(x, mask))
        return self.norm(x + 0.5 * self.dropout(self.after(x)))


def _feed_forward(width: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
    )


@register
class Conformer(Encoder):
    """Convolutions that shorten time four times, then blocks of attention (what is far) and convolution (what is
    near) (Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", 2020).

    A token stands for 4 frames. Places are told by fixed sines and cosines, where the paper has relative positions
    in the attention: the convolutions tell what is next to what.

    Raises:
        RecipeError: `heads` does not divide the common width, or as `LogMel` does.
    """

    class Options(LogMelOptions):
        name: Literal["conformer"] = "conformer"
        channels: int = sized(16, 32, 48, ge=1)
        """Channels of the two convolutions that shorten time."""
        layers: int = sized(2, 4, 8, ge=1, le=48)
        """Number of blocks."""
        heads: int = sized(4, 4, 8, ge=1)
        """Attention heads; they must divide the common width."""
        reach: int = sized(4, 7, 15, ge=1, le=50)
        """Tokens to either side that the convolution of a block sees."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        check_heads(options.heads, width)
        self.width = width
        self.mel = LogMel(options, shape["rate"])
        self.shorten = nn.ModuleList(
            FrameConvolution(before, options.channels, (3, 3), (2, 2))
            for before in (shape["channels"], options.channels)
        )
        self.shorten.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.project = nn.Linear(options.channels * -(-options.mels // 4), width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            ConformerBlock(width, options.heads, 2 * options.reach + 1, options.dropout) for _ in range(options.layers)
        )

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, `length [items]` -> `[items, frames / 4, width]`."""
        mel, length = self.mel(data["values"], data["length"])
        x = mel.to(self.project.weight.dtype).contiguous(memory_format=torch.channels_last)
        for step in self.shorten:
            x, length = step(x, length)
        x = self.project(x.permute(0, 2, 1, 3).flatten(2))
        x = self.dropout(x + sinusoidal_positions(x.shape[1], self.width).to(x))
        mask = length_mask(length, x.shape[1])
        padded = None if bool(mask.all()) else mask
        for block in self.blocks:
            x = block(x, padded)
        return x, mask

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The frames at the middle of each token, in seconds."""
        return frame_times(data["length"], length, 0.0, 4 * self.mel.seconds)
