"""Weighted-mean fusion."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion

#: groups of units with weights of their own when `attention` is on
HEADS = 4


@register
class Weighted(VectorFusion):
    """A convex combination of the inputs that are present, with learned weights.

        z = sum_m w_m * h_m,   w = softmax over present m of s_m
        attention off: s_m = theta_m, one learned number per input, the same for every row
        attention on:  s = V [a_1 h_1; ..; a_M h_M] + c, one number per input and head, read from the row

    Weights read from the concatenated inputs are the attention fusion of the TorchMultimodal library
    (2022). It has one weight an input; here the units are divided into four heads with weights of their own
    (as in Vaswani et al., "Attention Is All You Need", 2017), because a linear head on a single convex
    combination of two inputs cannot follow an exclusive-or: in training it stays at three of the four
    cases. The library's projection of each input is left to the network.

    Missing inputs are left out, both of the sum and of the scores (`a_m` is 0 there). A row without any input
    reads the learned "missing" embeddings in equal shares. Cost: M parameters without attention, 4 M^2 width
    with it. Without attention the method is additive.
    """

    class Options(FusionOptions):
        name: Literal["weighted"] = "weighted"
        attention: bool = False
        """Read the weights from the row's inputs; otherwise they are one learned number per input."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.attention = options.attention
        if options.attention:
            self.score = nn.Linear(len(inputs) * width, len(inputs) * HEADS)
            self.register_buffer("head_of_unit", torch.arange(width) * HEADS // width, persistent=False)
        else:
            self.theta = nn.Parameter(torch.zeros(len(inputs)))

    @property
    def interacts(self) -> bool:
        return self.attention

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        if self.attention:
            heads = self.score((vectors * present.unsqueeze(-1)).flatten(1))
            scores = heads.unflatten(1, (-1, HEADS))[:, :, self.head_of_unit]
        else:
            scores = self.theta.unsqueeze(-1).expand(len(vectors), -1, 1)
        return (vectors * present_softmax(scores, present.unsqueeze(-1))).sum(1)


def present_softmax(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax over the inputs (dimension 1) that are present, 0 for the others; equal shares where none is.

    scores: `[batch, inputs, ...]`; present: bool, of a shape that broadcasts to it
    """
    return scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(1)
