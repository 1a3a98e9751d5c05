"""MiniRocket: random convolution features of time series."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.step_pooling import MaskedBatchNorm, window_times

KERNEL_LENGTH = 9
#: All combinations of three of the nine weights of a kernel.
TRIPLES = list(combinations(range(KERNEL_LENGTH), 3))
MAX_DILATIONS = 32
#: Width of the ramp around a bias, in standard deviations of the convolution of white noise.
RAMP = 0.05


@register
class MiniRocket(Encoder):
    """Features from fixed convolutions, and a learned linear layer (Dempster, Schmidt and Webb, "MiniRocket: A Very
    Fast (Almost) Deterministic Transform for Time Series Classification", 2021).

        f_j = mean over the real steps t of r(((k_j * x)_t - b_j) / |k_j|) ;  token = W N(f) + c

    The 84 kernels k have nine weights, three of them 2 and the others -1, so that they sum to 0. Each kernel is used at
    several dilations, up to the length of the series, over a random subset of channels. The biases b_j are quantiles of
    the convolution outputs on the first training batch. Kernels and biases are then fixed and saved with the weights.
    The paper counts the steps above b_j. Here r rises from 0 to 1 over a short ramp, so that rounding errors do not
    flip a feature. The fraction of observed steps of each channel is appended to the features.

    The whole series gives one token, so this encoder is not suitable for event detection.
    """

    class Options(EncoderOptions):
        name: Literal["minirocket"] = "minirocket"
        num_features: int = sized_field(2_016, 5_040, 9_996, ge=len(TRIPLES), le=100_000)
        """Number of features, rounded down to a multiple of 84."""
        dropout: float = Field(default=0.2, ge=0, lt=1)
        """Dropout rate on the features."""

    modality: ClassVar[str] = "time_series"
    kernels: Tensor
    biases: Tensor
    is_fitted: Tensor

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        channels, per_kernel = shape["channels"], options.num_features // len(TRIPLES)
        self.dilations, self.features_per_dilation = dilations(shape["steps"], per_kernel)
        self.register_buffer("kernels", torch.stack([random_kernels(channels) for _ in self.dilations]))
        self.register_buffer(
            "biases", torch.cat([self._noise_biases(index) for index in range(len(self.dilations))], dim=1)
        )
        self.register_buffer("is_fitted", torch.tensor(False))
        self.norm = MaskedBatchNorm(len(TRIPLES) * per_kernel + channels)
        self.dropout = nn.Dropout(options.dropout)
        self.project = nn.Linear(len(TRIPLES) * per_kernel + channels, width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values` and `observed [items, steps, channels]`, `length [items]` -> `[items, 1, width]`."""
        real = length_mask(data["length"], data["values"].shape[1])
        with torch.no_grad(), torch.autocast(real.device.type, enabled=False):
            x = data["values"].float().transpose(1, 2)  # [items, channels, steps]
            if self.training and not self.is_fitted:
                self._fit(x, real)
            observed = data["observed"].float().sum(1) / data["length"].unsqueeze(1)
            features = torch.cat(
                [*(self._fraction_above(x, real, index) for index in range(len(self.dilations))), observed], dim=1
            )
        mask = torch.ones(len(features), 1, 1, device=features.device)
        features = self.norm(features.unsqueeze(-1), mask).transpose(1, 2)
        tokens = self.project(self.dropout(features.to(self.project.weight.dtype)))
        return tokens, torch.ones(len(tokens), 1, dtype=torch.bool, device=tokens.device)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        return window_times(data, length, data["values"].shape[1], 1)

    def _convolved(self, x: Tensor, index: int) -> Tensor:
        """Convolution outputs `[items, 84, steps]`, with zero padding."""
        dilation = self.dilations[index]
        return functional.conv1d(
            x, self.kernels[index].float(), padding=dilation * (KERNEL_LENGTH // 2), dilation=dilation
        )

    def _fit(self, x: Tensor, real: Tensor) -> None:
        """Set the biases to quantiles of the convolution outputs at the real steps of these items."""
        for index, columns in enumerate(self._bias_slices()):
            outputs = self._convolved(x, index).transpose(1, 2)[real].sort(0).values  # [steps of all items, 84]
            rank = (quantiles(self.features_per_dilation[index], columns.start) * len(outputs)).long().to(x.device)
            self.biases[:, columns] = outputs.T.gather(1, rank).to(self.biases.dtype)
        self.is_fitted.fill_(True)

    def _fraction_above(self, x: Tensor, real: Tensor, index: int) -> Tensor:
        """The fraction of real steps above each bias, `[items, 84 * features of this dilation]`."""
        slope = 1 / (RAMP * self._noise_std(index))
        convolved = (self._convolved(x, index) * slope.unsqueeze(1)).masked_fill(~real.unsqueeze(1), -math.inf)
        biases = self.biases[:, self._bias_slices()[index]].float() * slope.unsqueeze(1)
        above = [(convolved - bias.unsqueeze(1) + 0.5).clamp(0, 1).sum(2) for bias in biases.T]
        return torch.stack(above, dim=2).flatten(1) / real.sum(1, keepdim=True)

    def _noise_std(self, index: int) -> Tensor:
        """Standard deviation of the convolution of white noise with each kernel, `[84]`."""
        return (self.kernels[index].float() ** 2).sum((1, 2)).sqrt()

    def _bias_slices(self) -> list[slice]:
        """The columns of `biases` that belong to each dilation."""
        ends = [sum(self.features_per_dilation[: index + 1]) for index in range(len(self.features_per_dilation))]
        return [slice(end - count, end) for end, count in zip(ends, self.features_per_dilation, strict=True)]

    def _noise_biases(self, index: int) -> Tensor:
        """Initial biases for white noise, `[84, features of this dilation]`, used until the first training batch."""
        return self._noise_std(index).unsqueeze(1) * torch.special.ndtri(
            quantiles(self.features_per_dilation[index], self._bias_slices()[index].start)
        )


def dilations(steps: int, features: int) -> tuple[list[int], list[int]]:
    """Dilations from 1 to the largest at which a kernel fits into `steps`, evenly spaced on a logarithmic scale, and
    the number of features of each dilation; these numbers sum to `features`.
    """
    largest = math.log2(max(1.0, (steps - 1) / (KERNEL_LENGTH - 1)))
    exponents = torch.linspace(0, largest, min(MAX_DILATIONS, features), dtype=torch.float64)
    candidates = (2**exponents + 1e-9).long().tolist()
    repeated = [candidates[index % len(candidates)] for index in range(features)]
    unique = sorted(set(candidates))
    return unique, [repeated.count(dilation) for dilation in unique]


def random_kernels(channels: int) -> Tensor:
    """The 84 kernels `[84, channels, 9]`. Each covers a random subset of at most nine channels; small subsets are more
    probable.
    """
    weights = torch.full((len(TRIPLES), KERNEL_LENGTH), -1.0)
    weights[torch.arange(len(TRIPLES)).unsqueeze(1), torch.tensor(TRIPLES)] = 2.0
    max_exponent = math.log2(min(channels, KERNEL_LENGTH) + 1)
    size = (2 ** (torch.rand(len(TRIPLES), 1) * max_exponent)).long().clamp(1, channels)
    rank = torch.rand(len(TRIPLES), channels).argsort(1).argsort(1)
    return weights.unsqueeze(1) * (rank < size).unsqueeze(-1)


def quantiles(count: int, start: int) -> Tensor:
    """Quantile levels `[84, count]`, evenly spread over (0, 1): fractional parts of multiples of the golden ratio."""
    number = torch.arange(len(TRIPLES) * count).view(len(TRIPLES), count) + start * len(TRIPLES) + 1
    return (number * ((math.sqrt(5) + 1) / 2) % 1).float().clamp(1e-3, 1 - 1e-3)
