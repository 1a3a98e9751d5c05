"""Maximum fusion."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Maximum(VectorFusion):
    """The elementwise maximum of the present inputs.

        z = max over present m of h_m

    Max pooling over views, as in Su et al., "Multi-view Convolutional Neural Networks" (2015). Missing inputs are left
    out; a row without any input gives zeros. No parameters. The maximum is not additive: a linear decoder on it can
    model interactions.
    """

    class Options(FusionOptions):
        name: Literal["max"] = "max"

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        lowest = torch.finfo(vectors.dtype).min
        largest = vectors.masked_fill(~present.unsqueeze(-1), lowest).amax(1)
        return largest.masked_fill(~present.any(1, keepdim=True), 0)
