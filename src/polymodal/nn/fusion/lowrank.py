"""Low-rank multimodal fusion."""

from __future__ import annotations

from functools import reduce
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class LowRank(VectorFusion):
    """Tensor fusion with the weight tensor kept as a sum of `rank` products of factors.

        z = sum_r w_r prod_m (W_m^(r) [h_m; 1]) + b      (product over inputs, unit by unit)

    Liu et al., "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors" (2018). Holds products
    of every order like `tensor`, at M rank (width + 1) width parameters: linear in the number of inputs.
    Missing inputs are left out (a factor of 1); a row without any input gives sum_r w_r + b.
    """

    class Options(FusionOptions):
        name: Literal["lowrank"] = "lowrank"
        rank: int = Field(default=4, ge=1, le=256)
        """Products that are summed."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        # Factors of variance 1, terms of variance 1 / rank: the sum keeps its size whatever M and rank are.
        self.factors = nn.Parameter(torch.randn(len(inputs), options.rank, width + 1, width) * (width + 1) ** -0.5)
        self.weights = nn.Parameter(torch.full((options.rank,), options.rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(width))

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        extended = torch.cat([vectors, torch.ones_like(vectors[..., :1])], dim=-1)
        factors = torch.einsum("bmi,mrio->bmro", extended, self.factors)
        terms = reduce(torch.mul, factors.masked_fill(~present[..., None, None], 1).unbind(1))
        return torch.einsum("r,bro->bo", self.weights, terms) + self.bias
