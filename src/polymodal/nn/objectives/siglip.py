"""The pairwise sigmoid loss of SigLIP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.registry import register
from polymodal.nn.objectives.alignment import ContrastiveAlignment, ContrastiveAlignmentOptions
from polymodal.nn.objectives.base import InputInfo


@register
class SigLIP(ContrastiveAlignment):
    """Each pair of rows belongs together or not, decided by itself (Zhai, Mustafa, Kolesnikov & Beyer, "Sigmoid Loss
    for Language Image Pre-Training", 2023), with a learned scale and bias.

        L = -1/n sum_i sum_j log sigmoid( y_ij (e^t u_i . v_j + b) ) ,  y_ij = 1 where they belong together, else -1

    No row competes with another, so that a row may have several partners and the loss does not depend on the batch as
    InfoNCE does. Scale and bias start at 10 and -10, so that training begins near the answer that nothing belongs
    together. Knowing nothing costs what the best constant does: with the share p of pairs that belong together and m
    candidates, m (-p log p - (1 - p) log(1 - p)).
    """

    class Options(ContrastiveAlignmentOptions):
        name: Literal["siglip"] = "siglip"
        bias: float = Field(default=-10.0, ge=-20, le=0)
        """Where the learned bias starts; near minus the logarithm of the batch it has least to learn."""

    options: Options

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(options.bias))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def compare(self, similarity: Tensor, positive: Tensor, counted: Tensor) -> tuple[Tensor, float]:
        logits = self.scale * similarity + self.bias
        losses = functional.softplus(torch.where(positive, -logits, logits))
        candidates = float(counted.sum()) / len(counted)
        return (losses * counted).sum() / len(counted), candidates * entropy(
            float(positive.sum()) / float(counted.sum())
        )


def entropy(share: float) -> float:
    """Entropy in nats of what happens with probability `share`."""
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)
