"""Token-by-token decoding of connectionist temporal classification (prefix search)."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.nn.decoders.text_decoder import DecodingState

#: The logarithm of zero: small enough to vanish in sums, and finite for arithmetic.
LOG_ZERO = -1e30
#: The same for one frame, because many frames are added and subtracted again.
FRAME_LOG_ZERO = -1e4


class CTCPrefixState(DecodingState):
    """The probability of each next token, summed over all alignments of texts with frames.

    With n_t and b_t the log-probabilities that the first t frames give the prefix g and end in its last token, or in
    blank, and p_t the distribution of frame t, the texts that begin with g c have the probability

        P(g c ...) = sum_t phi_(t-1)(c) p_t(c) ,   phi_t(c) = exp b_t + exp n_t [c is not the last token of g]

    and the complete text g has the probability exp n_T + exp b_T. They sum to P(g ...), so p(c | g) = P(g c ...) / P(g
    ...). After Watanabe, Hori, Kim, Hershey and Hayashi, "Hybrid CTC/Attention Architecture for End-to-End Speech
    Recognition", 2017 (algorithm 2), for all tokens at once and with the recursions over frames as cumulative sums:

        n_t = S_t + log sum_(s <= t) phi_(s-1) / exp S_(s-1) ,   S_t = sum_(s <= t) log p_s(c)

    After a prefix without any alignment, all tokens are equally likely.

    log_p: `[rows, frames, vocabulary + 1]` fp32, log-probabilities of the frames, blank last
    mask: `[rows, frames]`, True = real, padding last
    end: the end token
    """

    def __init__(self, log_p: Tensor, mask: Tensor, end: int) -> None:
        blank_frame = torch.full_like(log_p[:1, :1], FRAME_LOG_ZERO)
        blank_frame[..., -1] = 0.0
        self.log_p = torch.where(
            mask.unsqueeze(-1), log_p, blank_frame
        )  # padding is blank with probability 1, which changes nothing
        self.p = self.log_p[..., :-1].exp()
        self.end = end
        rows = len(log_p)
        self.owner = torch.arange(rows, device=log_p.device)
        self.last = torch.full((rows,), -1, dtype=torch.int64, device=log_p.device)
        blank = self.log_p[..., -1].double().cumsum(1)
        self.blank = torch.cat([blank.new_zeros(rows, 1), blank], dim=1)
        self.token = torch.full_like(self.blank, LOG_ZERO)

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            self._append(tokens)
        scores = self._next_token_scores(torch.logaddexp(self.blank, self.token)[:, :-1])
        repeated = (self.last >= 0).nonzero().squeeze(1)
        if len(repeated):
            same = self.last[repeated]
            separated = self.blank[repeated, :-1] + self.log_p[self.owner[repeated], :, same]
            scores[repeated, same] = separated.logsumexp(1)
        scores[:, self.end] = torch.logaddexp(self.token[:, -1], self.blank[:, -1])
        impossible = (scores.amax(1, keepdim=True) < LOG_ZERO / 2).expand_as(scores)
        return scores.log_softmax(-1).clamp_min(FRAME_LOG_ZERO).masked_fill(impossible, 0.0).float()

    def reorder(self, rows: Tensor) -> None:
        for name in ("owner", "last", "blank", "token"):
            setattr(self, name, getattr(self, name).index_select(0, rows))

    def _next_token_scores(self, phi: Tensor) -> Tensor:
        """log sum_t exp(phi_t) p_(t+1)(c) of every token, `[n, vocabulary]` fp64."""
        top = phi.amax(1, keepdim=True)
        weight = (phi - top).exp().float()
        scores = phi.new_empty(len(phi), self.p.shape[2])
        for row in sorted(set(self.owner.tolist())):
            of_row = self.owner == row
            scores[of_row] = (weight[of_row] @ self.p[row]).double()
        return scores.log().clamp_min(LOG_ZERO) + top

    def _append(self, tokens: Tensor) -> None:
        token_log_p = self.log_p[self.owner, :, tokens].double()
        either = torch.logaddexp(self.blank, self.token)
        entering = torch.where((tokens == self.last).unsqueeze(1), self.blank, either)
        self.token = _forward_recursion(entering, token_log_p)
        self.blank = _forward_recursion(self.token, self.log_p[self.owner, :, -1].double())
        self.last = tokens


def _forward_recursion(entering: Tensor, log_p: Tensor) -> Tensor:
    """x_t = log(exp x_(t-1) + exp entering_(t-1)) + log_p_t with x_0 = log 0, `[n, frames + 1]`; `log_p [n,
    frames]`."""
    total = torch.cat([torch.zeros_like(entering[:, :1]), log_p.cumsum(1)], dim=1)
    inside = (entering - total)[:, :-1].logcumsumexp(1)
    return torch.cat([torch.full_like(entering[:, :1], LOG_ZERO), inside + total[:, 1:]], dim=1)
