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
    """Tensor fusion with a weight tensor that is factorized into a sum of `rank` products.

        z = sum_r w_r prod_m (W_m^(r) [h_m; 1]) + b      (product over inputs, unit by unit)

    Liu et al., "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors" (2018). It has products of every
    order like `tensor`, with M rank (width + 1) width parameters: linear in the number of inputs. Missing inputs are
    left out (a factor of 1); a row without any input gives sum_r w_r + b.
    """

    class Options(FusionOptions):
        name: Literal["lowrank"] = "lowrank"
        rank: int = Field(default=4, ge=1, le=256)
        """Number of products that are summed."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        # Factors have variance 1 and terms have variance 1 / rank: the scale of the sum does not depend on M or rank.
        self.factors = nn.Parameter(torch.randn(len(inputs), options.rank, width + 1, width) * (width + 1) ** -0.5)
        self.weights = nn.Parameter(torch.full((options.rank,), options.rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(width))

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        extended = torch.cat([vectors, torch.ones_like(vectors[..., :1])], dim=-1)
        factors = torch.einsum("bmi,mrio->bmro", extended, self.factors)  # [batch, inputs, rank, width]
        terms = reduce(torch.mul, factors.masked_fill(~present[..., None, None], 1).unbind(1))  # [batch, rank, width]
        return torch.einsum("r,bro->bo", self.weights, terms) + self.bias
