"""Mixture-of-experts fusion."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.fusion.base import FusionOptions, VectorFusion


@register
class Mixture(VectorFusion):
    """Several perceptrons over all inputs, weighed by a gate that reads the row.

        x = [a_1 h_1; ..; a_M h_M; a_1; ..; a_M],   p = softmax(W x + b)
        z = sum over the `top` largest p_e of p_e f_e(x)

    with f_e a perceptron of one hidden layer of `width` units. Jacobs et al., "Adaptive Mixtures of Local
    Experts" (1991); the sparse gate is that of Shazeer et al., "Outrageously Large Neural Networks" (2017),
    with the chosen p_e left as they are (Fedus et al., "Switch Transformers", 2022) so that the gate learns
    even with `top: 1`.

    In training a penalty keeps the gate from always choosing the same experts (Shazeer et al., equations 6
    and 7):

        balance * var(I) / mean(I)^2,   I_e = sum over the rows of the batch of p_e

    Missing inputs are read as zeros, and the flags a_m say so. Every expert is computed for every row: cost
    is `experts` times (M + 1) width^2, whatever `top` is.
    """

    class Options(FusionOptions):
        name: Literal["mixture"] = "mixture"
        experts: int = Field(default=4, ge=2, le=64)
        """Number of experts."""
        top: int = Field(default=2, ge=1, le=64)
        """Experts that count in each row; at most `experts`."""
        balance: float = Field(default=0.01, ge=0)
        """Weight of the load-balance penalty."""

        @model_validator(mode="after")
        def _top_within_experts(self) -> Self:
            if self.top > self.experts:
                raise ValueError(f"top is {self.top}, but there are only {self.experts} experts")
            return self

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.top, self.balance = options.top, options.balance
        read = len(inputs) * (width + 1)
        self.gate = nn.Linear(read, options.experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(read, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(options.experts)
        )
        self._penalties: dict[str, Tensor] = {}

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        flags = present.to(vectors.dtype)
        read = torch.cat([(vectors * flags.unsqueeze(-1)).flatten(1), flags], dim=1)
        share = self.gate(read).softmax(-1)
        self._penalties = {"balance": self.balance * imbalance(share)} if self.training else {}
        chosen = torch.zeros_like(share).scatter(1, share.topk(self.top, dim=1).indices, 1.0)
        answers = torch.stack([expert(read) for expert in self.experts], dim=1)
        return ((share * chosen).unsqueeze(-1) * answers).sum(1)

    def penalties(self) -> dict[str, Tensor]:
        return dict(self._penalties)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: not the penalty; its graph belongs to the last `forward` here."""
        return {**self.__dict__, "_penalties": {}}


def imbalance(share: Tensor) -> Tensor:
    """Squared coefficient of variation over experts of `share [batch, experts]` summed over the rows."""
    importance = share.sum(0)
    return importance.var(correction=0) / importance.mean().square()
