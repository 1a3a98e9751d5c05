"""Mixture-of-experts fusion."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.distributed.world import SINGLE, World
from polymodal.nn.fusion.base import FusionOptions, VectorFusion
from polymodal.nn.layers.shared_batch import SharesBatch


@register
class MixtureOfExperts(VectorFusion, SharesBatch):
    """Several MLPs over all inputs, weighted by a gate that depends on the row.

        x = [a_1 h_1; ..; a_M h_M; a_1; ..; a_M],   p = softmax(W x + b)
        z = sum over the `top_k` largest p_e of p_e f_e(x)

    f_e is an MLP with one hidden layer of `width` units. Jacobs et al., "Adaptive Mixtures of Local Experts" (1991).
    The sparse gate is that of Shazeer et al., "Outrageously Large Neural Networks" (2017), without renormalizing the
    selected p_e (Fedus et al., "Switch Transformers", 2022), so that the gate learns even with `top_k: 1`.

    In training a penalty keeps the gate from always selecting the same experts (Shazeer et al., equations 6 and 7):

        load_balancing_weight * var(I) / mean(I)^2,   I_e = sum over the rows of the batch of p_e

    Missing inputs are read as zeros, and the flags a_m mark the present inputs. Every expert is computed for every row:
    the cost is `num_experts` times (M + 1) width^2, independent of `top_k`.
    """

    class Options(FusionOptions):
        name: Literal["mixture"] = "mixture"
        num_experts: int = Field(default=4, ge=2, le=64)
        """Number of experts."""
        top_k: int = Field(default=2, ge=1, le=64)
        """Number of active experts in each row; at most `num_experts`."""
        load_balancing_weight: float = Field(default=0.01, ge=0)
        """Weight of the load-balancing loss."""

        @model_validator(mode="after")
        def _top_within_experts(self) -> Self:
            if self.top_k > self.num_experts:
                raise ValueError(f"top_k is {self.top_k}, but there are only {self.num_experts} experts")
            return self

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.top, self.balance = options.top_k, options.load_balancing_weight
        in_features = len(inputs) * (width + 1)
        self.gate = nn.Linear(in_features, options.num_experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(options.num_experts)
        )
        self._penalties: dict[str, Tensor] = {}

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        flags = present.to(vectors.dtype)
        x = torch.cat([(vectors * flags.unsqueeze(-1)).flatten(1), flags], dim=1)  # [batch, inputs * (width + 1)]
        share = self.gate(x).softmax(-1)  # [batch, experts]
        counted = share if self.has_rows else 0 * share
        self._penalties = {"balance": self.balance * imbalance(counted, self.world)} if self.training else {}
        selected = torch.zeros_like(share).scatter(1, share.topk(self.top, dim=1).indices, 1.0)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)  # [batch, experts, width]
        return ((share * selected).unsqueeze(-1) * outputs).sum(1)

    def penalties(self) -> dict[str, Tensor]:
        return dict(self._penalties)

    def __getstate__(self) -> dict[str, Any]:
        """The state for a copy, without the penalty: its graph belongs to the last `forward` of this module."""
        return {**self.__dict__, "_penalties": {}}


def imbalance(share: Tensor, world: World = SINGLE) -> Tensor:
    """Squared coefficient of variation over experts of `share [batch, experts]` summed over the rows (with several
    processes over the rows of all, and the part of this one)."""
    importance = world.sum_with_gradient(share.sum(0))
    return world.share(importance.var(correction=0) / importance.mean().square())
