"""InceptionTime: convolutions of several kernel sizes over a time series."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.step_pooling import MaskedBatchNorm, pool_steps, step_features, window_size, window_times


class InceptionModule(nn.Module):
    """y = ReLU(N([C_k(Bx); C_k/2(Bx); C_k/4(Bx); P x])): the concatenation of convolutions of three kernel sizes after
    a bottleneck B (1 x 1), and of a max pooling over three steps followed by a 1 x 1 convolution P.
    """

    def __init__(self, in_channels: int, filters: int, kernels: list[int]) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(in_channels, filters, 1, bias=False)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(filters, filters, kernel, padding=kernel // 2, bias=False) for kernel in kernels
        )
        self.pooled = nn.Conv1d(in_channels, filters, 1, bias=False)
        self.norm = MaskedBatchNorm(filters * (len(kernels) + 1))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """`x [items, channels, steps]`, 0 in the padding."""
        bottleneck = self.bottleneck(x)
        lowest = torch.finfo(x.dtype).min  # padding must never be the maximum, also of negative values
        pooled = functional.max_pool1d(x.masked_fill(real == 0, lowest), 3, 1, 1).masked_fill(real == 0, 0)
        parts = [convolution(bottleneck) for convolution in self.convolutions]
        return torch.relu(self.norm(torch.cat([*parts, self.pooled(pooled)], dim=1), real))


@register
class InceptionTime(Encoder):
    """InceptionTime (Ismail Fawaz et al., "InceptionTime: Finding AlexNet for Time Series Classification", 2020): a
    stack of Inception modules over time, with a shortcut around every three.

        x_0 = [values; observed] ;  x_l = M_l(x_{l-1}) ,  and after every third: x_l = ReLU(M_l(x_{l-1}) + S x_{l-3})

    Normalization ignores padding (`MaskedBatchNorm`). A token is the mean of neighboring steps.
    """

    class Options(EncoderOptions):
        name: Literal["inception_time"] = "inception_time"
        num_filters: int = sized_field(16, 32, 64, ge=1)
        """Number of filters of each convolution; a block has 4 times as many output channels."""
        num_blocks: int = sized_field(3, 6, 6, ge=1, le=24)
        """Number of Inception blocks."""
        kernel_size: int = Field(default=39, ge=3, le=255)
        """Size of the longest kernel in steps, at most the length of the series. The other two kernels have a half and
        a quarter of it. Even sizes are increased by 1."""
        max_tokens: int = Field(default=64, ge=1)
        """Maximum number of tokens; neighboring steps are averaged."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate on the channels of the last block."""

    modality: ClassVar[str] = "time_series"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.window = window_size(shape["steps"], options.max_tokens)
        longest = min(options.kernel_size, max(3, shape["steps"]))
        kernels = [part | 1 for part in (longest, max(3, longest // 2), max(3, longest // 4))]
        self.width = options.num_filters * (len(kernels) + 1)
        channels = 2 * shape["channels"]
        sizes = [channels] + [self.width] * options.num_blocks
        self.blocks = nn.ModuleList(InceptionModule(size, options.num_filters, kernels) for size in sizes[:-1])
        starts = [sizes[index] for index in range(0, options.num_blocks - 2, 3)]
        self.shortcuts = nn.ModuleList(nn.Conv1d(size, self.width, 1, bias=False) for size in starts)
        self.shortcut_norms = nn.ModuleList(MaskedBatchNorm(self.width) for _ in starts)
        self.dropout = nn.Dropout1d(options.dropout)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values` and `observed [items, steps, channels]`, `length [items]` -> `[items, tokens, width]`."""
        mask = length_mask(data["length"], data["values"].shape[1])
        x = step_features(data, next(self.parameters()).dtype).transpose(1, 2)  # [items, 2 * channels, steps]
        real = mask.unsqueeze(1).to(x.dtype)
        residual = x
        for index, block in enumerate(self.blocks):
            x = block(x, real)
            if index % 3 == 2:
                shortcut, norm = self.shortcuts[index // 3], self.shortcut_norms[index // 3]
                x = residual = torch.relu(x + norm(shortcut(residual), real))
        return pool_steps(self.dropout(x).transpose(1, 2), mask, self.window)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        return window_times(data, length, self.window, self.window)
