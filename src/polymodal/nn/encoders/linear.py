"""An encoder of numeric columns: one linear embedding per column."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.token_pooling import all_valid_mask


@register
class LinearColumns(Encoder):
    """One token per column, linear in its standardized value:

        h_c = x_c w_c + b_c ,  or m_c where the number is missing

    with w_c, b_c and m_c learned for each column: the feature tokenizer of Gorishniy et al., "Revisiting Deep Learning
    Models for Tabular Data" (2021), extended to missing values.
    """

    class Options(EncoderOptions):
        name: Literal["linear"] = "linear"

    modality: ClassVar[str] = "number"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(shape["columns"], width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(shape["columns"], width).uniform_(-bound, bound))
        self.missing = nn.Parameter(torch.zeros(shape["columns"], width))

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, columns]`, `known [items, columns]` bool -> `[items, columns, width]`."""
        values = data["values"].to(self.weight.dtype).unsqueeze(-1)
        tokens = torch.where(data["known"].unsqueeze(-1), values * self.weight + self.bias, self.missing)
        return tokens, all_valid_mask(tokens)
