"""Numbers, one token per column through periodic features."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.tokens import all_real


@register
class Periodic(Encoder):
    """One token per column, from sines and cosines of its standardised value at learned frequencies:

        h_c = ReLU(W_c [sin(2 pi f_c x_c); cos(2 pi f_c x_c)] + b_c) ,  or m_c where the number is missing

    with frequencies f_c ~ N(0, sigma^2) at the start: the "PLR" embedding of Gorishniy et al., "On
    Embeddings for Numerical Features in Tabular Deep Learning" (2022). It sees steps and waves that a line
    cannot.
    """

    class Options(EncoderOptions):
        name: Literal["periodic"] = "periodic"
        frequencies: int = sized(16, 32, 48, ge=1)
        """Learned frequencies of each column."""
        sigma: float = Field(default=0.3, gt=0)
        """Spread of the first frequencies, in waves per standard deviation: higher sees finer detail."""

    modality: ClassVar[str] = "number"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        columns, features = shape["columns"], 2 * options.frequencies
        bound = features**-0.5
        self.frequencies = nn.Parameter(options.sigma * torch.randn(columns, options.frequencies))
        self.weight = nn.Parameter(torch.empty(columns, features, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))
        self.missing = nn.Parameter(torch.zeros(columns, width))

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, columns]`, `known [items, columns]` bool -> `[items, columns, width]`."""
        angle = 2 * math.pi * self.frequencies * data["values"].to(self.weight.dtype).unsqueeze(-1)
        waves = torch.cat([angle.sin(), angle.cos()], dim=-1)
        tokens = torch.relu(torch.einsum("icf,cfw->icw", waves, self.weight) + self.bias)
        tokens = torch.where(data["known"].unsqueeze(-1), tokens, self.missing)
        return tokens, all_real(tokens)
