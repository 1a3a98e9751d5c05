"""Convolutions of several lengths over time."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.series_steps import RealNorm, pool_steps, steps_of, window_of, window_times


class InceptionModule(nn.Module):
    """y = ReLU(N([C_k(Bx); C_k/2(Bx); C_k/4(Bx); P x])): convolutions of three lengths over a bottleneck B (1 x 1),
    and a maximum over three steps followed by a 1 x 1 convolution P, side by side.
    """

    def __init__(self, before: int, filters: int, kernels: list[int]) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(before, filters, 1, bias=False)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(filters, filters, kernel, padding=kernel // 2, bias=False) for kernel in kernels
        )
        self.pooled = nn.Conv1d(before, filters, 1, bias=False)
        self.norm = RealNorm(filters * (len(kernels) + 1))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """`x [items, channels, steps]`, 0 in the padding."""
        narrow = self.bottleneck(x)
        lowest = torch.finfo(x.dtype).min  # padding must not win over what is below 0
        highest = functional.max_pool1d(x.masked_fill(real == 0, lowest), 3, 1, 1).masked_fill(real == 0, 0)
        parts = [convolution(narrow) for convolution in self.convolutions]
        return torch.relu(self.norm(torch.cat([*parts, self.pooled(highest)], dim=1), real))


@register
class Inception(Encoder):
    """InceptionTime (Ismail Fawaz et al., "InceptionTime: Finding AlexNet for Time Series Classification", 2020): a
    stack of Inception modules over time, with a shortcut around every three.

        x_0 = [values; observed] ;  x_l = M_l(x_{l-1}) ,  and after every third: x_l = ReLU(M_l(x_{l-1}) + S x_{l-3})

    Normalisation does not see padding (`RealNorm`), and a token is the mean of neighbouring steps.
    """

    class Options(EncoderOptions):
        name: Literal["inception"] = "inception"
        filters: int = sized(16, 32, 64, ge=1)
        """Filters of each convolution; a module has four times as many channels."""
        depth: int = sized(3, 6, 6, ge=1, le=24)
        """Inception modules in a row."""
        kernel: int = Field(default=39, ge=3, le=255)
        """Steps that the longest convolution sees, at most the length of the series; the others see a half and a
        quarter. Even numbers count as the next odd one."""
        tokens: int = Field(default=64, ge=1)
        """Most tokens; neighbouring steps are averaged down to them."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of the last channels dropped in training."""

    modality: ClassVar[str] = "series"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.window = window_of(shape["steps"], options.tokens)
        longest = min(options.kernel, max(3, shape["steps"]))
        kernels = [part | 1 for part in (longest, max(3, longest // 2), max(3, longest // 4))]
        self.width = options.filters * (len(kernels) + 1)
        channels = 2 * shape["channels"]
        sizes = [channels] + [self.width] * options.depth
        self.modules_in_row = nn.ModuleList(InceptionModule(size, options.filters, kernels) for size in sizes[:-1])
        starts = [sizes[at] for at in range(0, options.depth - 2, 3)]
        self.shortcuts = nn.ModuleList(nn.Conv1d(size, self.width, 1, bias=False) for size in starts)
        self.shortcut_norms = nn.ModuleList(RealNorm(self.width) for _ in starts)
        self.dropout = nn.Dropout1d(options.dropout)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values` and `observed [items, steps, channels]`, `length [items]` -> `[items, tokens, width]`."""
        mask = length_mask(data["length"], data["values"].shape[1])
        x = steps_of(data, next(self.parameters()).dtype).transpose(1, 2)
        real = mask.unsqueeze(1).to(x.dtype)
        start = x
        for place, module in enumerate(self.modules_in_row):
            x = module(x, real)
            if place % 3 == 2:
                shortcut, norm = self.shortcuts[place // 3], self.shortcut_norms[place // 3]
                x = start = torch.relu(x + norm(shortcut(start), real))
        return pool_steps(self.dropout(x).transpose(1, 2), mask, self.window)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        return window_times(data, length, self.window, self.window)
