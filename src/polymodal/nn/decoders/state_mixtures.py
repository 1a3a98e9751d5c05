"""Several drafts that write one text together."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.nn.decoders.text_decoder import DecodingState


class LinearMixture(DecodingState):
    """The mean of what several drafts say of the next token, each counting by its view's weight in the row:

    p(token) = sum_v w_v p_v(token) / sum_v w_v

    A row in which no view counts is decided by all of them alike.

    weights: `[n]` of each draft
    """

    def __init__(self, drafts: list[DecodingState], weights: list[Tensor]) -> None:
        self.drafts = drafts
        weight = torch.stack([one.float() for one in weights], dim=1)
        total = weight.sum(1, keepdim=True)
        self.weight = torch.where(total > 0, weight / total.clamp_min(1e-9), 1.0 / len(drafts))

    def step(self, tokens: Tensor | None) -> Tensor:
        said = torch.stack([draft.step(tokens).log_softmax(-1) for draft in self.drafts], dim=1)
        return torch.logsumexp(said + self.weight.log().unsqueeze(-1), dim=1)

    def select(self, rows: Tensor) -> None:
        self.weight = self.weight.index_select(0, rows)
        for draft in self.drafts:
            draft.select(rows)


class LogLinearMixture(DecodingState):
    """The log-linear mean of what several drafts say, each with its `share`; what one of them excludes is excluded:

    log p(token) = sum_d s_d log p_d(token) - log Z
    """

    def __init__(self, drafts: list[DecodingState], shares: list[float]) -> None:
        self.drafts, self.shares = drafts, shares

    def step(self, tokens: Tensor | None) -> Tensor:
        said = [
            share * draft.step(tokens).log_softmax(-1) for draft, share in zip(self.drafts, self.shares, strict=True)
        ]
        return torch.stack(said).sum(0)

    def select(self, rows: Tensor) -> None:
        for draft in self.drafts:
            draft.select(rows)
