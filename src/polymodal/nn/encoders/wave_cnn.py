"""A convolutional network over the waveform itself."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.frames import FrameConvolution, FrameNorm, frame_times, shorter, silence

STAGES = 3


@register
class WaveCNN(Encoder):
    """One-dimensional convolutions over samples: long filters that learn what to listen for, then short ones (Dai et
    al., "Very Deep Convolutional Neural Networks for Raw Waveforms", 2017), with strides where the paper pools.

        x = values / sqrt(mean values^2) ;  x_0 = ReLU(Norm(W x)) ;  x_i = ReLU(Norm(W_i * x_{i-1}))

    Each of the three stages keeps every fourth step and doubles the channels, so a token stands for 64 steps of
    `step` seconds. Loudness does not count: each clip is divided by its own.

    Raises:
        RecipeError: `step` is longer than `window`.
    """

    class Options(EncoderOptions):
        name: Literal["wave_cnn"] = "wave_cnn"
        channels: int = sized(16, 32, 64, ge=1)
        """Learned filters over the waveform; the last stage has eight times as many channels."""
        window: float = sized(0.005, 0.005, 0.01, gt=0, le=0.1)
        """Seconds under one filter."""
        step: float = sized(0.00125, 0.001, 0.0005, gt=0, le=0.1)
        """Seconds from one place of the filters to the next; at most `window`."""
        layers: int = sized(1, 2, 3, ge=1, le=12)
        """Convolutions in each stage."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of the last feature maps dropped in training."""

    modality: ClassVar[str] = "audio"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        if options.step > options.window:
            raise RecipeError("step", f"{options.step:g} s is longer than the window of {options.window:g} s")
        self.kernel = 2 * max(1, round(options.window * shape["rate"] / 2))
        self.step = max(1, round(options.step * shape["rate"]))
        self.seconds = 4**STAGES * self.step / shape["rate"]
        self.filters = nn.Linear(self.kernel * shape["channels"], options.channels, bias=False)
        self.norm = FrameNorm(options.channels)
        self.stages = nn.ModuleList()
        before = options.channels
        for _ in range(STAGES):
            self.stages.append(FrameConvolution(before, 2 * before, (5, 1), (4, 1)))
            before *= 2
            self.stages.extend(FrameConvolution(before, before, (3, 1), (1, 1)) for _ in range(options.layers - 1))
        self.stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dropout = nn.Dropout2d(options.dropout)
        self.width = before

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, channels, samples]`, `length [items]` -> `[items, samples / (64 step), width]`."""
        values = loud(data["values"], data["length"]).to(self.filters.weight.dtype)
        length = shorter(data["length"].clamp_min(1), self.step)
        x = torch.relu(self.norm(self.filters(self._places(values)).permute(0, 2, 1).unsqueeze(-1)))
        for stage in self.stages:
            x, length = stage(x, length)
        x = self.dropout(silence(x, length))
        return x.squeeze(-1).transpose(1, 2), length_mask(length, x.shape[2])

    def _places(self, values: Tensor) -> Tensor:
        """The samples under the filters at each step, `[items, steps, channels * kernel]`, place t centred at sample
        t step: a strided convolution as one product of large matrices.
        """
        steps = -(-values.shape[2] // self.step)
        after = max(0, (steps - 1) * self.step + self.kernel // 2 - values.shape[2])
        values = F.pad(values, (self.kernel // 2, after))
        return values.unfold(2, self.kernel, self.step)[:, :, :steps].transpose(1, 2).flatten(2)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The samples at the middle of each token, in seconds."""
        return frame_times(data["length"], length, 0.0, self.seconds)


def loud(values: Tensor, length: Tensor) -> Tensor:
    """`values [items, channels, samples]`, zero after each `length [items]`, with a mean square of 1 per clip."""
    values = values.float()
    energy = values.square().sum((1, 2)) / (length.clamp_min(1) * values.shape[1])
    return values * (energy + 1e-8).rsqrt().view(-1, 1, 1)
