"""An encoder of dates and times: one MLP per column, on all features of the column."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.token_pooling import all_valid_mask


@register
class ColumnMLP(Encoder):
    """One token per column of dates, and one per pair of columns with elapsed time:

        h_c = W_c GELU(V_c [x_c; 1 - k_c] + a_c) + b_c

    with the features x_c of the column (0 where they are missing) and their presence k_c. The features of a date
    (weekday, month, hour, trend) interact within the MLP of their column.
    """

    class Options(EncoderOptions):
        name: Literal["column_mlp"] = "column_mlp"
        hidden_size: int = sized_field(64, 128, 256, ge=1)
        """Width of the hidden layer of each column."""

    modality: ClassVar[str] = "datetime"
    options: Options
    position: Tensor
    is_feature: Tensor

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        sizes: list[int] = shape["groups"]
        groups, largest, hidden = len(sizes), max(sizes), options.hidden_size
        # the features of each column, padded to the largest column: [columns, largest]
        position, is_feature = torch.zeros(groups, largest, dtype=torch.long), torch.zeros(groups, largest)
        start = 0
        for group, size in enumerate(sizes):
            position[group, :size] = torch.arange(start, start + size)
            is_feature[group, :size] = 1
            start += size
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("is_feature", is_feature, persistent=False)
        bound = torch.tensor(sizes).view(-1, 1, 1) ** -0.5
        self.weight_in = nn.Parameter(torch.empty(groups, 2 * largest, hidden).uniform_(-1, 1) * bound)
        self.bias_in = nn.Parameter(torch.empty(groups, hidden).uniform_(-1, 1) * bound[:, 0])
        self.weight_out = nn.Parameter(torch.empty(groups, hidden, width).uniform_(-1, 1) * hidden**-0.5)
        self.bias_out = nn.Parameter(torch.zeros(groups, width))

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values [items, features]`, `known [items, features]` bool -> `[items, columns, width]`."""
        dtype = self.weight_in.dtype
        is_feature = self.is_feature.to(dtype)
        known = data["known"][:, self.position].to(dtype)
        values = data["values"].to(dtype)[:, self.position] * known * is_feature
        features = torch.cat([values, (1 - known) * is_feature], dim=2)  # [items, columns, 2 largest]
        hidden = nn.functional.gelu(torch.einsum("icf,cfh->ich", features, self.weight_in) + self.bias_in)
        tokens = torch.einsum("ich,chw->icw", hidden, self.weight_out) + self.bias_out
        return tokens, all_valid_mask(tokens)
