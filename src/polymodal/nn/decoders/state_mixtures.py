"""Decoding states that combine the predictions of several states."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.nn.decoders.text_decoder import DecodingState


class LinearMixture(DecodingState):
    """The mean of the next-token distributions of several states, weighted by the weight of each branch in the row:

    p(token) = sum_v w_v p_v(token) / sum_v w_v

    In a row in which all weights are 0, all states have equal weight.

    weights: `[n]` of each state
    """

    def __init__(self, states: list[DecodingState], weights: list[Tensor]) -> None:
        self.states = states
        weight = torch.stack([branch.float() for branch in weights], dim=1)
        total = weight.sum(1, keepdim=True)
        self.weight = torch.where(total > 0, weight / total.clamp_min(1e-9), 1.0 / len(states))

    def step(self, tokens: Tensor | None) -> Tensor:
        log_p = torch.stack([state.step(tokens).log_softmax(-1) for state in self.states], dim=1)
        return torch.logsumexp(log_p + self.weight.log().unsqueeze(-1), dim=1)

    def reorder(self, rows: Tensor) -> None:
        self.weight = self.weight.index_select(0, rows)
        for state in self.states:
            state.reorder(rows)


class LogLinearMixture(DecodingState):
    """The weighted geometric mean of the next-token distributions of several states; a token excluded by one state is
    excluded:

    log p(token) = sum_d s_d log p_d(token) - log Z
    """

    def __init__(self, states: list[DecodingState], weights: list[float]) -> None:
        self.states, self.weights = states, weights

    def step(self, tokens: Tensor | None) -> Tensor:
        log_p = [
            weight * state.step(tokens).log_softmax(-1) for state, weight in zip(self.states, self.weights, strict=True)
        ]
        return torch.stack(log_p).sum(0)

    def reorder(self, rows: Tensor) -> None:
        for state in self.states:
            state.reorder(rows)
