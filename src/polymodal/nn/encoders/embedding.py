"""An encoder of categorical columns: one embedding per column."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.nn.encoders.token_pooling import all_valid_mask


@register
class Embedding(Encoder):
    """One token per column: a learned vector for each category (Guo and Berkhahn, "Entity Embeddings of Categorical
    Variables", 2016):

        h_c = E[offset_c + id_c]

    All columns share one embedding table. The vectors of "missing" and "rare" are initialized to zero: they stay
    neutral if they never occur in the training rows.
    """

    class Options(EncoderOptions):
        name: Literal["embedding"] = "embedding"

    modality: ClassVar[str] = "category"

    offset: Tensor

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width = width
        sizes = shape["sizes"]
        offset = torch.tensor([0, *accumulate(sizes[:-1])])
        self.register_buffer("offset", offset, persistent=False)
        self.table = nn.Embedding(sum(sizes), width)
        with torch.no_grad():
            self.table.weight[offset] = 0
            self.table.weight[offset + 1] = 0

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`ids [items, columns]` -> `[items, columns, width]`."""
        tokens = self.table(data["ids"] + self.offset)
        return tokens, all_valid_mask(tokens)
