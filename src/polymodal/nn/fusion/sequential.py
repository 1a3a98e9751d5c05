"""Sequential fusion: a recurrent state updated with one input after another."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Sequential(VectorFusion):
    """A recurrent state that is updated with each input, in recipe order, by gated recurrent units.

        r = sigmoid(A_m h_m + B_m s),  u = sigmoid(C_m h_m + D_m s),  n = tanh(E_m h_m + r * (F_m s))
        s <- (1 - u) * n + u * s   if input m is present, else s <- s;   z = s after the last input

    Each linear map has a bias; s starts as a learned vector. The unit is that of Cho et al., "Learning Phrase
    Representations using RNN Encoder-Decoder" (2014), with separate weights for each input. Fusion in stages, each of
    which uses the result of the earlier ones, follows Liang et al., "Multimodal Language Analysis with Recurrent
    Multistage Fusion" (2018). Their stages select the signals to fuse; here each stage is one input.

    Missing inputs are left out; a row without any input gives the learned initial state. The order of the inputs
    matters. Cost: 6 M width^2 parameters, M steps that cannot run in parallel.
    """

    class Options(FusionOptions):
        name: Literal["sequential"] = "sequential"

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.initial_state = nn.Parameter(torch.randn(width) * 0.02)
        self.cells = nn.ModuleList(nn.GRUCell(width, width) for _ in inputs)

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        state = self.initial_state.to(vectors.dtype).expand(vectors.shape[0], -1)  # [batch, width]
        for index, cell in enumerate(self.cells):
            state = torch.where(present[:, index, None], cell(vectors[:, index], state), state)
        return state
