"""An encoder of numeric columns: one piecewise-linear embedding per column."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.token_pooling import all_valid_mask


@register
class PiecewiseLinear(Encoder):
    """One token per column, piecewise linear in its number, with knots at quantiles of the training rows:

        h_c = x_c w_c + b_c + V_c e_c(x_c) ,  or m_c where the number is missing
        e_ct(x) = clamp((x - q_c,t-1) / (q_ct - q_c,t-1), 0, 1)

    e_c is the piecewise-linear encoding of Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features in
    Tabular Deep Learning" (2022), equation 1, with bins between the quantiles q_c. As in version B of the authors'
    package, a linear term is added and V_c starts at 0, so that an untrained embedding is linear. The linear term also
    continues the function beyond the outer quantiles, where e_c is constant. Equal quantiles count once, so a column of
    few distinct values has few bins.

    Example:
        >>> import torch
        >>> shape = {"columns": 1, "quantiles": [[-1.0, 0.0, 2.0]]}
        >>> encoder = PiecewiseLinear(PiecewiseLinear.Options(num_bins=2), shape=shape, width=4)
        >>> encoder.encode_bins(torch.tensor([[-3.0], [-0.5], [1.0]]))[:, 0].tolist()
        [[0.0, 0.0], [0.5, 0.0], [1.0, 0.5]]
    """

    class Options(EncoderOptions):
        name: Literal["piecewise_linear"] = "piecewise_linear"
        num_bins: int = Field(default=16, ge=1, le=64)
        """Largest number of bins per column. More bins resolve finer steps and need more rows."""

    modality: ClassVar[str] = "number"

    low: Tensor
    size: Tensor

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        columns = shape["columns"]
        low, size = bins_of(shape["quantiles"], options.num_bins)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("size", size, persistent=False)
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))
        self.bin_weight = nn.Parameter(torch.zeros(columns, low.shape[1], width))
        self.missing = nn.Parameter(torch.zeros(columns, width))

    def encode_bins(self, values: Tensor) -> Tensor:
        """The piecewise-linear encoding of `values [items, columns]`: `[items, columns, bins]`, from 0 to 1."""
        return ((values.unsqueeze(-1) - self.low) / self.size).clamp(0, 1)

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, columns]`, `known [items, columns]` bool -> `[items, columns, width]`."""
        values = data["values"].to(self.weight.dtype)
        pieces = torch.einsum("icb,cbw->icw", self.encode_bins(values), self.bin_weight)
        tokens = values.unsqueeze(-1) * self.weight + self.bias + pieces
        tokens = torch.where(data["known"].unsqueeze(-1), tokens, self.missing)
        return tokens, all_valid_mask(tokens)


def bins_of(quantiles: list[list[float]], num_bins: int) -> tuple[Tensor, Tensor]:
    """Lower edge and size of the bins of each column, `[columns, bins]` each.

    A bin that a column lacks begins at infinity: its encoding is always 0.
    """
    edges = []
    for column in quantiles:
        at = np.linspace(0, max(0, len(column) - 1), num_bins + 1).round().astype(int)
        edges.append(torch.from_numpy(np.unique(np.array(column, np.float32)[at]) if column else np.zeros(0)))
    most = max(1, *(len(one) - 1 for one in edges))
    low, size = torch.full((len(edges), most), torch.inf), torch.ones(len(edges), most)
    for one, own_low, own_size in zip(edges, low, size, strict=True):
        if len(one) > 1:
            own_low[: len(one) - 1], own_size[: len(one) - 1] = one[:-1], one.diff()
    return low, size
