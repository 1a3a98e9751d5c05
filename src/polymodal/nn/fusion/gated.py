"""Gated multimodal unit."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Gated(VectorFusion):
    """A gated sum; each unit of each input has a gate that depends on all inputs.

        h'_m = tanh(W_m h_m + b_m),   g_m = sigmoid(V_m [h_1; ..; h_M] + c_m),   z = sum_m a_m g_m * h'_m

    Arevalo et al., "Gated Multimodal Units for Information Fusion" (2017), in its variant for any number of inputs (the
    paper ties the two gates to g and 1 - g when M = 2; here they are independent). A missing input is left out of the
    sum. The gates of the other inputs read its learned "missing" embedding, so they can open wider when it is absent. A
    row without any input gives zeros. Cost: M (M + 1) width^2 parameters.
    """

    class Options(FusionOptions):
        name: Literal["gated"] = "gated"

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.contents = nn.ModuleList(nn.Linear(width, width) for _ in inputs)
        self.gates = nn.Linear(len(inputs) * width, len(inputs) * width)

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        content = torch.stack(
            [w(h) for w, h in zip(self.contents, vectors.unbind(1), strict=True)], dim=1
        ).tanh()  # [batch, inputs, width]
        gate = self.gates(vectors.flatten(1)).sigmoid().view_as(content)
        return (content * gate * present.unsqueeze(-1)).sum(1)
