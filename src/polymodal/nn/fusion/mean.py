"""Mean fusion."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Mean(VectorFusion):
    """The mean of the present inputs.

        z = sum_m a_m h_m / sum_m a_m

    Missing inputs are left out, so the method handles missing inputs without training for them (Baltrusaitis et al.,
    "Multimodal Machine Learning: A Survey and Taxonomy", 2019, section 5.1). Additive: a linear decoder on it cannot
    model an interaction between inputs.
    """

    class Options(FusionOptions):
        name: Literal["mean"] = "mean"

    @property
    def models_interactions(self) -> bool:
        return False

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        weight = present.to(vectors.dtype).unsqueeze(-1)  # [batch, inputs, 1]
        return (vectors * weight).sum(1) / weight.sum(1).clamp_min(1)
