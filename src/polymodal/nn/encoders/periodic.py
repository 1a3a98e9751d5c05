"""An encoder of numeric columns: one embedding per column from periodic features."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.token_pooling import all_valid_mask


@register
class Periodic(Encoder):
    """One token per column, from sines and cosines of its standardized value at learned frequencies:

        h_c = ReLU(W_c [sin(2 pi f_c x_c); cos(2 pi f_c x_c)] + b_c) ,  or m_c where the number is missing

    with frequencies initialized as f_c ~ N(0, sigma^2): the "PLR" embedding of Gorishniy et al., "On Embeddings for
    Numerical Features in Tabular Deep Learning" (2022). It represents steps and oscillations that a linear embedding
    cannot.
    """

    class Options(EncoderOptions):
        name: Literal["periodic"] = "periodic"
        num_frequencies: int = sized_field(16, 32, 48, ge=1)
        """Number of learned frequencies per column."""
        frequency_init_scale: float = Field(default=0.3, gt=0)
        """Standard deviation of the initial frequencies (sigma), in periods per standard deviation of the column.
        Higher values resolve finer detail."""

    modality: ClassVar[str] = "number"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        columns, features = shape["columns"], 2 * options.num_frequencies
        bound = features**-0.5
        self.frequencies = nn.Parameter(options.frequency_init_scale * torch.randn(columns, options.num_frequencies))
        self.weight = nn.Parameter(torch.empty(columns, features, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))
        self.missing = nn.Parameter(torch.zeros(columns, width))

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, columns]`, `known [items, columns]` bool -> `[items, columns, width]`."""
        angle = 2 * math.pi * self.frequencies * data["values"].to(self.weight.dtype).unsqueeze(-1)
        waves = torch.cat([angle.sin(), angle.cos()], dim=-1)  # [items, columns, 2 * num_frequencies]
        tokens = torch.relu(torch.einsum("icf,cfw->icw", waves, self.weight) + self.bias)
        tokens = torch.where(data["known"].unsqueeze(-1), tokens, self.missing)
        return tokens, all_valid_mask(tokens)
