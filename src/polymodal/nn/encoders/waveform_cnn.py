"""A 1-D CNN over the raw waveform."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.frame_convolution import (
    FrameConvolution,
    FrameNorm,
    frame_times,
    mask_frames,
    strided_length,
)

NUM_STAGES = 3


@register
class WaveformCNN(Encoder):
    """One-dimensional convolutions over samples: a first layer with long filters, then layers with short filters (Dai
    et al., "Very Deep Convolutional Neural Networks for Raw Waveforms", 2017), with strides in place of the paper's
    pooling.

        x = values / sqrt(mean values^2) ;  x_0 = ReLU(Norm(W x)) ;  x_i = ReLU(Norm(W_i * x_{i-1}))

    Each of the three stages has a stride of 4 and doubles the channels, so a token covers 64 steps of `stride_seconds`.
    Loudness has no effect, since each item is divided by its root mean square.

    Raises:
        RecipeError: `stride_seconds` is longer than `window_seconds`.
    """

    class Options(EncoderOptions):
        name: Literal["waveform_cnn"] = "waveform_cnn"
        channels: int = sized_field(16, 32, 64, ge=1)
        """Number of learned filters over the waveform; the last stage has 8 times this number of channels."""
        window_seconds: float = sized_field(0.005, 0.005, 0.01, gt=0, le=0.1)
        """Length of a filter in seconds."""
        stride_seconds: float = sized_field(0.00125, 0.001, 0.0005, gt=0, le=0.1)
        """Stride of the filters in seconds; at most `window_seconds`."""
        num_layers: int = sized_field(1, 2, 3, ge=1, le=12)
        """Number of convolutions per stage."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate on the channels of the last feature map."""

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        if options.stride_seconds > options.window_seconds:
            raise RecipeError(
                "stride_seconds",
                f"{options.stride_seconds:g} s is longer than the window of {options.window_seconds:g} s",
            )
        self.kernel_size = 2 * max(1, round(options.window_seconds * shape["rate"] / 2))
        self.stride = max(1, round(options.stride_seconds * shape["rate"]))
        self.seconds = 4**NUM_STAGES * self.stride / shape["rate"]
        self.filters = nn.Linear(self.kernel_size * shape["channels"], options.channels, bias=False)
        self.norm = FrameNorm(options.channels)
        self.stages = nn.ModuleList()
        channels = options.channels
        for _ in range(NUM_STAGES):
            self.stages.append(FrameConvolution(channels, 2 * channels, (5, 1), (4, 1)))
            channels *= 2
            self.stages.extend(
                FrameConvolution(channels, channels, (3, 1), (1, 1)) for _ in range(options.num_layers - 1)
            )
        self.stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dropout = nn.Dropout2d(options.dropout)
        self.width = channels

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, `length [items]` -> `[items, samples / (64 stride), width]`."""
        values = normalize_loudness(data["values"], data["length"]).to(self.filters.weight.dtype)
        length = strided_length(data["length"].clamp_min(1), self.stride)
        x = torch.relu(self.norm(self.filters(self._windows(values)).permute(0, 2, 1).unsqueeze(-1)))
        for stage in self.stages:
            x, length = stage(x, length)
        x = self.dropout(mask_frames(x, length))  # [items, channels, steps, 1]
        return x.squeeze(-1).transpose(1, 2), length_mask(length, x.shape[2])

    def _windows(self, values: Tensor) -> Tensor:
        """The samples in the window of each step, `[items, steps, channels * kernel_size]`; window t is centered at
        sample `t * stride`. The strided convolution is then one product of large matrices.
        """
        steps = -(-values.shape[2] // self.stride)
        after = max(0, (steps - 1) * self.stride + self.kernel_size // 2 - values.shape[2])
        values = F.pad(values, (self.kernel_size // 2, after))
        return values.unfold(2, self.kernel_size, self.stride)[:, :, :steps].transpose(1, 2).flatten(2)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The time of the center sample of each token, in seconds."""
        return frame_times(data["length"], length, 0.0, self.seconds)


def normalize_loudness(values: Tensor, length: Tensor) -> Tensor:
    """`values [items, channels, samples]`, zero after each `length [items]`, scaled to a mean square of 1 per item."""
    values = values.float()
    energy = values.square().sum((1, 2)) / (length.clamp_min(1) * values.shape[1])
    return values * (energy + 1e-8).rsqrt().view(-1, 1, 1)
