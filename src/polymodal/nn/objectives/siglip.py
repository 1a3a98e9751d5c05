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
from polymodal.distributed.world import World
from polymodal.nn.objectives.alignment import ContrastiveAlignment, ContrastiveAlignmentOptions
from polymodal.nn.objectives.base import InputInfo


@register
class SigLIP(ContrastiveAlignment):
    """Contrastive alignment with the pairwise sigmoid loss: each pair of rows is an independent binary classification,
    with a learned scale and bias (Zhai, Mustafa, Kolesnikov & Beyer, "Sigmoid Loss for Language Image Pre-Training",
    2023).

        L = -1/n sum_i sum_j log sigmoid( y_ij (e^t u_i . v_j + b) ) ,  y_ij = 1 for positives, else -1

    Rows do not compete with each other, so that a row may have several positives and the loss depends less on the batch
    size than InfoNCE. Scale and bias start at 10 and -10, so that training starts near the prediction "no pair
    matches". The baseline is the loss of the best constant prediction: with the fraction p of positive pairs and m
    candidates, m (-p log p - (1 - p) log(1 - p)).
    """

    class Options(ContrastiveAlignmentOptions):
        name: Literal["siglip"] = "siglip"
        initial_bias: float = Field(default=-10.0, ge=-20, le=0)
        """Initial bias. At values near -log(batch size) the model has the least to learn."""

    options: Options

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(options.initial_bias))

    @property
    def logit_scale(self) -> Tensor:
        return self.log_scale.exp()

    def contrastive_loss(
        self, similarity: Tensor, positive: Tensor, counted: Tensor, world: World
    ) -> tuple[Tensor, float]:
        logits = self.logit_scale * similarity + self.bias
        losses = functional.softplus(torch.where(positive, -logits, logits))
        queries, pairs, matches = (world.total(one) for one in (len(counted), counted.sum(), positive.sum()))
        return (losses * counted).sum() / queries, pairs / queries * entropy(matches / pairs)


def entropy(probability: float) -> float:
    """Entropy in nats of an event of this probability."""
    return -sum(p * math.log(p) for p in (probability, 1 - probability) if p > 0)
