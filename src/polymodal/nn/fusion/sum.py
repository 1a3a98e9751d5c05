"""Sum fusion."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Sum(VectorFusion):
    """The sum of the present inputs.

        z = sum_m a_m h_m

    The joint representation that adds projected inputs (Baltrusaitis et al., "Multimodal Machine Learning: A Survey and
    Taxonomy", 2019, section 3.1). Missing inputs are left out, so the norm of z depends on the number of present
    inputs; a row without any input gives zeros. No parameters. Additive.
    """

    class Options(FusionOptions):
        name: Literal["sum"] = "sum"

    @property
    def models_interactions(self) -> bool:
        return False

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        return (vectors * present.unsqueeze(-1)).sum(1)
