"""Sequential fusion: each input conditions the next."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Sequential(VectorFusion):
    """A running state that reads the inputs one after another, in recipe order, through gated recurrent
    units.

        r = sigmoid(A_m h_m + B_m s),  u = sigmoid(C_m h_m + D_m s),  n = tanh(E_m h_m + r * (F_m s))
        s <- (1 - u) * n + u * s   if input m is present, else s <- s;   z = s after the last input

    (each map has a bias; s starts as a learned vector). The unit is that of Cho et al., "Learning Phrase
    Representations using RNN Encoder-Decoder" (2014), with weights of its own for each input. Fusing in
    stages, each of which builds on what the earlier ones gave, is the idea of Liang et al., "Multimodal
    Language Analysis with Recurrent Multistage Fusion" (2018); their stages choose which signals to read,
    here each stage is one input.

    Missing inputs are left out; a row without any input gives the learned start. The order of the inputs
    matters. Cost: 6 M width^2 parameters, M steps that cannot run in parallel.
    """

    class Options(FusionOptions):
        name: Literal["sequential"] = "sequential"

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.cells = nn.ModuleList(nn.GRUCell(width, width) for _ in inputs)

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        state = self.start.to(vectors.dtype).expand(len(vectors), -1)
        for index, cell in enumerate(self.cells):
            state = torch.where(present[:, index, None], cell(vectors[:, index], state), state)
        return state
