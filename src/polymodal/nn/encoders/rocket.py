"""Random convolution features of series."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.series_steps import RealNorm, window_times

LENGTH = 9
#: Every way to choose three of the nine weights of a kernel.
TRIPLES = list(combinations(range(LENGTH), 3))
MOST_DILATIONS = 32
#: Width of the ramp between below and above a bias, in deviations of the convolution of white noise.
RAMP = 0.05


@register
class Rocket(Encoder):
    """Features of fixed convolutions, and a learned linear map of them (Dempster, Schmidt and Webb, "MiniRocket: A
    Very Fast (Almost) Deterministic Transform for Time Series Classification", 2021).

        f_j = mean over the real steps t of r(((k_j * x)_t - b_j) / |k_j|) ;  token = W N(f) + c

    The 84 kernels k have nine weights, three of them 2 and the others -1, so that they sum to 0. Each is used at
    several dilations, up to the length of the series, over a random choice of channels. The biases b_j are quantiles
    of what the convolutions give on the first batch of training; kernels and biases are then fixed, and stored with
    the weights. The paper counts the steps above b_j; here r rises from 0 to 1 over a short ramp, so that rounding
    never turns a feature over. The share of steps at which each channel was seen is added to the features.

    One token stands for the whole series, so decisions moment by moment (spans) have nothing to go by.
    """

    class Options(EncoderOptions):
        name: Literal["rocket"] = "rocket"
        features: int = sized(2_016, 5_040, 9_996, ge=len(TRIPLES), le=100_000)
        """Features, rounded down to a multiple of 84."""
        dropout: float = Field(default=0.2, ge=0, lt=1)
        """Share of features dropped in training."""

    modality: ClassVar[str] = "series"
    kernels: Tensor
    biases: Tensor
    fitted: Tensor

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        channels, each = shape["channels"], options.features // len(TRIPLES)
        self.dilations, self.counts = dilations(shape["steps"], each)
        self.register_buffer("kernels", torch.stack([random_kernels(channels) for _ in self.dilations]))
        self.register_buffer("biases", torch.cat([self._of_noise(at) for at in range(len(self.dilations))], dim=1))
        self.register_buffer("fitted", torch.tensor(False))
        self.norm = RealNorm(len(TRIPLES) * each + channels)
        self.dropout = nn.Dropout(options.dropout)
        self.project = nn.Linear(len(TRIPLES) * each + channels, width)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values` and `observed [items, steps, channels]`, `length [items]` -> `[items, 1, width]`."""
        real = length_mask(data["length"], data["values"].shape[1])
        with torch.no_grad(), torch.autocast(real.device.type, enabled=False):
            x = data["values"].float().transpose(1, 2)
            if self.training and not self.fitted:
                self._fit(x, real)
            seen = data["observed"].float().sum(1) / data["length"].unsqueeze(1)
            features = torch.cat([*(self._shares(x, real, at) for at in range(len(self.dilations))), seen], dim=1)
        one = torch.ones(len(features), 1, 1, device=features.device)
        features = self.norm(features.unsqueeze(-1), one).transpose(1, 2)
        tokens = self.project(self.dropout(features.to(self.project.weight.dtype)))
        return tokens, torch.ones(len(tokens), 1, dtype=torch.bool, device=tokens.device)

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        return window_times(data, length, data["values"].shape[1], 1)

    def _convolved(self, x: Tensor, at: int) -> Tensor:
        """`[items, 84, steps]`, as if each series went on with zeros."""
        dilation = self.dilations[at]
        return functional.conv1d(x, self.kernels[at].float(), padding=dilation * (LENGTH // 2), dilation=dilation)

    def _fit(self, x: Tensor, real: Tensor) -> None:
        """Set the biases to quantiles of the convolutions at the real steps of these items."""
        for at, columns in enumerate(self._columns()):
            found = self._convolved(x, at).transpose(1, 2)[real].sort(0).values  # [steps of all items, 84]
            place = (quantiles(self.counts[at], columns.start) * len(found)).long().to(x.device)
            self.biases[:, columns] = found.T.gather(1, place).to(self.biases.dtype)
        self.fitted.fill_(True)

    def _shares(self, x: Tensor, real: Tensor, at: int) -> Tensor:
        """`[items, 84 * features of this dilation]`: the share of real steps above each bias."""
        slope = 1 / (RAMP * self._deviation(at))
        convolved = (self._convolved(x, at) * slope.unsqueeze(1)).masked_fill(~real.unsqueeze(1), -math.inf)
        biases = self.biases[:, self._columns()[at]].float() * slope.unsqueeze(1)
        above = [(convolved - bias.unsqueeze(1) + 0.5).clamp(0, 1).sum(2) for bias in biases.T]
        return torch.stack(above, dim=2).flatten(1) / real.sum(1, keepdim=True)

    def _deviation(self, at: int) -> Tensor:
        """`[84]`: of the convolution of white noise."""
        return (self.kernels[at].float() ** 2).sum((1, 2)).sqrt()

    def _columns(self) -> list[slice]:
        """Where the biases of each dilation lie."""
        ends = [sum(self.counts[: at + 1]) for at in range(len(self.counts))]
        return [slice(end - count, end) for end, count in zip(ends, self.counts, strict=True)]

    def _of_noise(self, at: int) -> Tensor:
        """Biases `[84, features of this dilation]` for white noise, until a batch of training sets them."""
        return self._deviation(at).unsqueeze(1) * torch.special.ndtri(
            quantiles(self.counts[at], self._columns()[at].start)
        )


def dilations(steps: int, features: int) -> tuple[list[int], list[int]]:
    """Dilations from 1 to the largest at which a kernel still fits into `steps`, evenly spread in their logarithm, and
    how many of the `features` of a kernel each of them has.
    """
    largest = math.log2(max(1.0, (steps - 1) / (LENGTH - 1)))
    exponents = torch.linspace(0, largest, min(MOST_DILATIONS, features), dtype=torch.float64)
    chosen = (2**exponents + 1e-9).long().tolist()
    each = [chosen[at % len(chosen)] for at in range(features)]
    found = sorted(set(chosen))
    return found, [each.count(dilation) for dilation in found]


def random_kernels(channels: int) -> Tensor:
    """The 84 kernels `[84, channels, 9]`, each over its own random choice of channels, of up to nine; fewer are
    likelier than many.
    """
    weights = torch.full((len(TRIPLES), LENGTH), -1.0)
    weights[torch.arange(len(TRIPLES)).unsqueeze(1), torch.tensor(TRIPLES)] = 2.0
    most = math.log2(min(channels, LENGTH) + 1)
    size = (2 ** (torch.rand(len(TRIPLES), 1) * most)).long().clamp(1, channels)
    rank = torch.rand(len(TRIPLES), channels).argsort(1).argsort(1)
    return weights.unsqueeze(1) * (rank < size).unsqueeze(-1)


def quantiles(count: int, start: int) -> Tensor:
    """Levels `[84, count]` between 0 and 1, evenly spread: multiples of the golden ratio without their whole part."""
    number = torch.arange(len(TRIPLES) * count).view(len(TRIPLES), count) + start * len(TRIPLES) + 1
    return (number * ((math.sqrt(5) + 1) / 2) % 1).float().clamp(1e-3, 1 - 1e-3)
