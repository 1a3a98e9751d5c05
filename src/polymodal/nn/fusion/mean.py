"""Mean fusion."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Mean(VectorFusion):
    """The mean of the inputs that are present.

        z = sum_m a_m h_m / sum_m a_m

    Missing inputs are left out, which makes this the method that bears gaps without being taught to (Baltrusaitis et
    al., "Multimodal Machine Learning: A Survey and Taxonomy", 2019, section 5.1). Additive: a linear head on it cannot
    see an interaction between inputs.
    """

    class Options(FusionOptions):
        name: Literal["mean"] = "mean"

    @property
    def interacts(self) -> bool:
        return False

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        weight = present.to(vectors.dtype).unsqueeze(-1)
        return (vectors * weight).sum(1) / weight.sum(1).clamp_min(1)
