"""Product fusion."""

from __future__ import annotations

from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Product(VectorFusion):
    """The elementwise product of the present inputs.

        z = prod over present m of h_m

    The pointwise fusion of image and question in Antol et al., "VQA: Visual Question Answering" (2015). Missing inputs
    are left out (a factor of 1), so a single present input passes unchanged and a row without any input gives ones. No
    parameters. Products of many inputs have heavy tails: with more than four inputs, `lowrank` or `bilinear` train
    better.
    """

    class Options(FusionOptions):
        name: Literal["product"] = "product"

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        return reduce(torch.mul, vectors.masked_fill(~present.unsqueeze(-1), 1).unbind(1))
