"""Connectionist temporal classification, read token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.nn.decoders.text_decoder import DecodingState

#: The logarithm of nothing: small enough never to count, large enough to be computed with.
NOTHING = -1e30
#: The same for one frame, of which many are added up and subtracted again.
SILENT = -1e4


class CTCPrefixState(DecodingState):
    """How likely each text goes on with each token, over all ways to lay texts on frames.

    With n_t and b_t the log-probabilities that the first t frames say the prefix g and end in its last token, or in
    blank, and p_t the distribution of frame t, the texts that begin with g c have the probability

        P(g c ...) = sum_t phi_(t-1)(c) p_t(c) ,   phi_t(c) = exp b_t + exp n_t [c is not the last token of g]

    and g itself, ended there, exp n_T + exp b_T. They sum to P(g ...), so p(c | g) = P(g c ...) / P(g ...). After
    Watanabe, Hori, Kim, Hershey and Hayashi, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition",
    2017 (algorithm 2), for all tokens at once and with the recursions over frames as cumulative sums:

        n_t = S_t + log sum_(s <= t) phi_(s-1) / exp S_(s-1) ,   S_t = sum_(s <= t) log p_s(c)

    After a text that the frames cannot say, all tokens are equal.

    log_p: `[rows, frames, vocabulary + 1]` fp32, log-probabilities of the frames, the blank last
    mask: `[rows, frames]`, True = real, padding behind
    end: the token that ends a text
    """

    def __init__(self, log_p: Tensor, mask: Tensor, end: int) -> None:
        silent = torch.full_like(log_p[:1, :1], SILENT)
        silent[..., -1] = 0.0
        self.log_p = torch.where(mask.unsqueeze(-1), log_p, silent)  # padding is surely blank, which changes nothing
        self.p = self.log_p[..., :-1].exp()
        self.end = end
        rows = len(log_p)
        self.owner = torch.arange(rows, device=log_p.device)
        self.last = torch.full((rows,), -1, dtype=torch.int64, device=log_p.device)
        silence = self.log_p[..., -1].double().cumsum(1)
        self.blank = torch.cat([silence.new_zeros(rows, 1), silence], dim=1)
        self.token = torch.full_like(self.blank, NOTHING)

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            self._append(tokens)
        scores = self._summed(torch.logaddexp(self.blank, self.token)[:, :-1])
        again = (self.last >= 0).nonzero().squeeze(1)
        if len(again):
            same = self.last[again]
            apart = self.blank[again, :-1] + self.log_p[self.owner[again], :, same]
            scores[again, same] = apart.logsumexp(1)
        scores[:, self.end] = torch.logaddexp(self.token[:, -1], self.blank[:, -1])
        impossible = (scores.amax(1, keepdim=True) < NOTHING / 2).expand_as(scores)
        return scores.log_softmax(-1).clamp_min(SILENT).masked_fill(impossible, 0.0).float()

    def select(self, rows: Tensor) -> None:
        for name in ("owner", "last", "blank", "token"):
            setattr(self, name, getattr(self, name).index_select(0, rows))

    def _summed(self, phi: Tensor) -> Tensor:
        """log sum_t exp(phi_t) p_(t+1)(c) of every token, `[n, vocabulary]` fp64."""
        top = phi.amax(1, keepdim=True)
        share = (phi - top).exp().float()
        found = phi.new_empty(len(phi), self.p.shape[2])
        for row in sorted(set(self.owner.tolist())):
            of_row = self.owner == row
            found[of_row] = (share[of_row] @ self.p[row]).double()
        return found.log().clamp_min(NOTHING) + top

    def _append(self, tokens: Tensor) -> None:
        own = self.log_p[self.owner, :, tokens].double()
        either = torch.logaddexp(self.blank, self.token)
        begun = torch.where((tokens == self.last).unsqueeze(1), self.blank, either)
        self.token = _carried(begun, own)
        self.blank = _carried(self.token, self.log_p[self.owner, :, -1].double())
        self.last = tokens


def _carried(begun: Tensor, log_p: Tensor) -> Tensor:
    """x_t = log(exp x_(t-1) + exp begun_(t-1)) + log_p_t, from nothing, `[n, frames + 1]`; `log_p [n, frames]`."""
    total = torch.cat([torch.zeros_like(begun[:, :1]), log_p.cumsum(1)], dim=1)
    inside = (begun - total)[:, :-1].logcumsumexp(1)
    return torch.cat([torch.full_like(begun[:, :1], NOTHING), inside + total[:, 1:]], dim=1)
