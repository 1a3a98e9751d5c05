"""Tensor fusion network."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion
from polymodal.nn.fusion.bilinear import unit_variance_linear

#: Upper limit on the size of the outer product, in numbers per row.
MAX_PRODUCT_SIZE = 2**16


@register
class TensorFusion(VectorFusion):
    """The outer product of all inputs, each extended by 1, then a linear layer.

        v_m = [a_m (P_m h_m + p_m); 1],   z = W vec(v_1 (x) .. (x) v_M) + b

    Zadeh et al., "Tensor Fusion Network for Multimodal Sentiment Analysis" (2017). The 1 keeps the inputs themselves
    and all products of fewer than M inputs. P_m first projects to `projection_dim` units d, because the product has (d
    + 1)^M numbers and W has that many times width. Missing inputs are left out: only their 1 remains, so the terms that
    contain them are zero. A row without any input gives a learned constant.

    Raises:
        RecipeError: (projection_dim + 1)^M exceeds 65536.
    """

    class Options(FusionOptions):
        name: Literal["tensor"] = "tensor"
        projection_dim: int = Field(default=8, ge=1, le=255)
        """Number of units to which each input is projected before the outer product."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        size = (options.projection_dim + 1) ** len(inputs)
        if size > MAX_PRODUCT_SIZE:
            raise RecipeError(
                "projection_dim",
                f"the outer product of {len(inputs)} inputs with projection_dim {options.projection_dim} has "
                f"{size} numbers (limit {MAX_PRODUCT_SIZE}); use a smaller projection_dim or the fusion 'lowrank'",
            )
        self.reduce = nn.ModuleList(unit_variance_linear(width, options.projection_dim) for _ in inputs)
        self.project = nn.Linear(size, width)

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        product = vectors.new_ones(vectors.shape[0], 1)
        for index, linear in enumerate(self.reduce):
            reduced = linear(vectors[:, index]) * present[:, index, None]
            factor = torch.cat([reduced, torch.ones_like(reduced[:, :1])], dim=1)  # [batch, projection_dim + 1]
            product = torch.einsum("bi,bj->bij", product, factor).flatten(1)
        return self.project(product)
