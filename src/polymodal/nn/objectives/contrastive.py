"""InfoNCE: the contrastive loss of CLIP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.distributed.world import World
from polymodal.nn.objectives.alignment import ContrastiveAlignment, ContrastiveAlignmentOptions
from polymodal.nn.objectives.base import InputInfo, NetworkProtocol

#: Upper bound of 1 / temperature, as in CLIP.
LARGEST_SCALE = 100.0


@register
class Contrastive(ContrastiveAlignment):
    """Contrastive alignment with InfoNCE in both directions and a learned temperature: each row is classified among all
    rows of the batch (van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018; Radford
    et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021).

        s_ij = e^theta u_i . v_j ;  L = -mean_i mean_{p in P(i)} log( e^{s_ip} / sum_j e^{s_ij} )

    P(i) are the positives of row i (Khosla et al., "Supervised Contrastive Learning", 2020, L_out): the row itself, and
    rows that share an item with it. The baseline is log n for n candidates.
    """

    class Options(ContrastiveAlignmentOptions):
        name: Literal["contrastive"] = "contrastive"
        temperature: float = Field(default=0.07, ge=0.01, le=1)
        """Initial temperature. It is learned, with a minimum of 0.01."""

    options: Options

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(options.temperature)))

    @property
    def logit_scale(self) -> Tensor:
        return self.log_scale.exp()

    def after_step(self, network: NetworkProtocol) -> None:
        super().after_step(network)
        with torch.no_grad():  # clamp the parameter, not its use, so that the gradient never vanishes at the bound
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))

    def contrastive_loss(
        self, similarity: Tensor, positive: Tensor, counted: Tensor, world: World
    ) -> tuple[Tensor, float]:
        logits = (self.logit_scale * similarity).masked_fill(~counted, float("-inf"))
        log_likelihood = torch.where(positive, logits.log_softmax(1), 0.0).sum(1) / positive.sum(1)
        baseline = world.sum(world.mean(counted.sum(1).float().log()))
        return -world.mean(log_likelihood), float(baseline)
