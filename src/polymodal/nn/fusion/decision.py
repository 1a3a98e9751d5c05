"""How the decisions of several experts become one: pure functions, for every space of decided values.

Decisions travel as `expert [batch, experts, k]` (decoded values) with `present [batch, experts]` bool, and
come back as values `[batch, k]` of the same space: log-probabilities (categorical), the logit of the combined
probability (binary), numbers (real). A row without any present expert gets the undecided answer: equal
classes, logit 0, number 0 (the mean, as real values are standardised).

Binary values are handled as distributions over two classes, so that one set of formulas serves both spaces.
Everything is computed in log space: no probability underflows to an infinite logit.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from polymodal.core.types import Space

#: Share of a vote's result that the mean probability gets: it orders classes with equal votes and overturns
#: none.
TIE = 1e-3


def log_distribution(expert: Tensor, space: Space) -> Tensor:
    """Log-probabilities over the last dimension: `[batch, experts, k]`, or `[batch, experts, k, 2]` for
    binary."""
    if space == "binary":
        return torch.stack([F.logsigmoid(-expert), F.logsigmoid(expert)], dim=-1)
    return expert.log_softmax(-1)


def values_of(log_p: Tensor, space: Space) -> Tensor:
    """Combined log-probabilities as values of the space, `[batch, k]`."""
    return log_p[..., 1] - log_p[..., 0] if space == "binary" else log_p.log_softmax(-1)


def average(expert: Tensor, present: Tensor, space: Space, weight: Tensor | None = None) -> Tensor:
    """The linear pool p = sum_m w_m p_m / sum_m w_m over present experts, `weight [experts]` equal if None.

    Real numbers: their weighted mean.
    """
    share = _shares(present, torch.ones_like(expert[0, :, 0]) if weight is None else weight)
    if space == "real":
        return (expert * share.unsqueeze(-1)).sum(1)
    log_p = log_distribution(expert, space)
    return values_of(_decided(_log_mean(log_p, share), present), space)


def vote(expert: Tensor, present: Tensor, space: Space) -> Tensor:
    """Each present expert names one class; p is the share of votes, ties ordered by the mean probability.

        p_k = (1 - TIE) sum_m a_m [argmax p_m = k] / sum_m a_m + TIE mean_m p_mk

    Real numbers: the median of the present ones, the mean of the middle two if they are even in number.
    """
    if space == "real":
        numbers = expert.masked_fill(~present.unsqueeze(-1), math.nan)
        return torch.where(present.any(1, keepdim=True), torch.nanquantile(numbers, 0.5, dim=1), 0.0)
    log_p = log_distribution(expert, space)
    share = _shares(present, torch.ones_like(expert[0, :, 0]))
    ballots = F.one_hot(log_p.argmax(-1), log_p.shape[-1]).to(log_p.dtype)
    votes = (ballots * _like(share, ballots)).sum(1)
    broken = torch.logaddexp((votes * (1 - TIE)).log(), _log_mean(log_p, share) + math.log(TIE))
    return values_of(_decided(broken, present), space)


def product(expert: Tensor, present: Tensor, space: Space, temperature: Tensor) -> Tensor:
    """The log-linear pool of tempered experts, `temperature [experts]`:

        log p = sum_m a_m log p_m / (T_m sum_m a_m) - log Z

    At T = 1 the exponents sum to one, so that experts which say the same are not counted twice; lower
    temperatures let evidence add up. Real numbers: the product of Gaussians of variance T_m, that is their
    mean weighted by 1 / T_m.
    """
    if space == "real":
        return average(expert, present, space, 1 / temperature)
    share = _shares(present, torch.ones_like(temperature)) / temperature
    log_p = log_distribution(expert, space)
    return values_of(_decided((log_p * _like(share, log_p)).sum(1), present), space)


def stack(expert: Tensor, present: Tensor, space: Space, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map of all decisions and presences, `weight [k, experts * k + experts]`, `bias [k]`.

    Categorical decisions enter as log-probabilities, binary ones as logits, real ones as they are; absent
    ones as 0.
    """
    decision = expert.log_softmax(-1) if space == "categorical" else expert
    decision = torch.where(present.unsqueeze(-1), decision, 0.0)
    with torch.autocast(expert.device.type, enabled=False):
        values = F.linear(torch.cat([decision.flatten(1), present.to(decision.dtype)], dim=1), weight, bias)
    return values.log_softmax(-1) if space == "categorical" else values


def _shares(present: Tensor, weight: Tensor) -> Tensor:
    """`weight [experts]` over present experts, summing to one in each row; zeros in a row without any."""
    share = present.to(weight.dtype) * weight
    return share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)


def _log_mean(log_p: Tensor, share: Tensor) -> Tensor:
    """log sum_m share_m p_m, finite also for shares of 0."""
    log_share = share.clamp_min(torch.finfo(share.dtype).tiny).log()
    return (log_p + _like(log_share, log_p)).logsumexp(1)


def _decided(log_p: Tensor, present: Tensor) -> Tensor:
    """The same, with equal classes where nobody is present."""
    anyone = present.any(1).view(-1, *[1] * (log_p.dim() - 1))
    return torch.where(anyone, log_p, -math.log(log_p.shape[-1]))


def _like(share: Tensor, log_p: Tensor) -> Tensor:
    return share.view(*share.shape, *[1] * (log_p.dim() - 2))
