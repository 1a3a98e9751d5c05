"""Weighted-mean fusion."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion

#: Number of groups of units with separate weights with `input_dependent`.
HEADS = 4


@register
class Weighted(VectorFusion):
    """A convex combination of the present inputs with learned weights.

        z = sum_m w_m * h_m,   w = softmax over present m of s_m
        input_dependent false: s_m = theta_m, one learned number per input, the same for every row
        input_dependent true:  s = V [a_1 h_1; ..; a_M h_M] + c, one number per input and head, computed from the row

    Weights computed from the concatenated inputs are the attention fusion of the TorchMultimodal library (2022), which
    has one weight per input. Here the units are divided into four heads with separate weights (as in Vaswani et al.,
    "Attention Is All You Need", 2017), because a linear decoder on a single convex combination of two inputs cannot fit
    an exclusive-or: in training it stays at three of the four cases. The library's projection of each input is left to
    the network.

    Missing inputs are left out of the sum and of the scores (`a_m` is 0). A row without any input averages the learned
    "missing" embeddings. Cost: M parameters with fixed weights, 4 M^2 width with input-dependent weights. With fixed
    weights the method is additive.
    """

    class Options(FusionOptions):
        name: Literal["weighted"] = "weighted"
        input_dependent: bool = False
        """Compute the weights from the inputs of each row; otherwise they are one learned number per input."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.attention = options.input_dependent
        if options.input_dependent:
            self.score = nn.Linear(len(inputs) * width, len(inputs) * HEADS)
            self.register_buffer("head_of_unit", torch.arange(width) * HEADS // width, persistent=False)
        else:
            self.theta = nn.Parameter(torch.zeros(len(inputs)))

    @property
    def models_interactions(self) -> bool:
        return self.attention

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        if self.attention:
            heads = self.score((vectors * present.unsqueeze(-1)).flatten(1))  # [batch, inputs * HEADS]
            scores = heads.unflatten(1, (-1, HEADS))[:, :, self.head_of_unit]  # [batch, inputs, width]
        else:
            scores = self.theta.unsqueeze(-1).expand(vectors.shape[0], -1, 1)
        return (vectors * present_softmax(scores, present.unsqueeze(-1))).sum(1)


def present_softmax(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax over the inputs (dimension 1) that are present, 0 for the others; uniform if none is present.

    scores: `[batch, inputs, ...]`
    present: bool, of a shape that broadcasts to `scores`
    """
    return scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(1)
