"""Rules that combine the predictions of several experts: pure functions, for every output space.

The inputs are `expert [batch, experts, k]` (decoded values) and `present [batch, experts]` bool. The result is `[batch,
k]` values of the same space: log-probabilities (categorical), the logit of the combined probability (binary), or
numbers (real). A row without any present expert gets the neutral prediction: equal classes, logit 0, number 0 (the
mean, as real values are standardized).

Binary values are handled as distributions over two classes, so that the same equations serve both spaces. Everything is
computed in log space: no probability underflows to an infinite logit.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from polymodal.core.types import Space

#: Weight of the mean probability in a vote: it breaks ties and never changes the order of unequal vote counts.
TIE_WEIGHT = 1e-3


def log_distribution(expert: Tensor, space: Space) -> Tensor:
    """Log-probabilities over the last dimension: `[batch, experts, k]`, or `[batch, experts, k, 2]` for binary
    values."""
    if space == "binary":
        return torch.stack([F.logsigmoid(-expert), F.logsigmoid(expert)], dim=-1)
    return expert.log_softmax(-1)


def to_values(log_p: Tensor, space: Space) -> Tensor:
    """Values of the space, `[batch, k]`, from combined log-probabilities."""
    return log_p[..., 1] - log_p[..., 0] if space == "binary" else log_p.log_softmax(-1)


def average(expert: Tensor, present: Tensor, space: Space, weight: Tensor | None = None) -> Tensor:
    """The linear pool p = sum_m w_m p_m / sum_m w_m over present experts.

    weight: `[experts]`; None for equal weights

    Real numbers: their weighted mean.
    """
    share = _normalized_weights(present, torch.ones_like(expert[0, :, 0]) if weight is None else weight)
    if space == "real":
        return (expert * share.unsqueeze(-1)).sum(1)
    log_p = log_distribution(expert, space)
    return to_values(_uniform_if_absent(_log_mean(log_p, share), present), space)


def vote(expert: Tensor, present: Tensor, space: Space) -> Tensor:
    """Majority vote: p is the fraction of votes for each class; the mean probability breaks ties.

        p_k = (1 - TIE_WEIGHT) sum_m a_m [argmax p_m = k] / sum_m a_m + TIE_WEIGHT mean_m p_mk

    Real numbers: the median of the present experts (the mean of the middle two for an even number).
    """
    if space == "real":
        numbers = expert.masked_fill(~present.unsqueeze(-1), math.nan)
        return torch.where(present.any(1, keepdim=True), torch.nanquantile(numbers, 0.5, dim=1), 0.0)
    log_p = log_distribution(expert, space)
    share = _normalized_weights(present, torch.ones_like(expert[0, :, 0]))
    ballots = F.one_hot(log_p.argmax(-1), log_p.shape[-1]).to(log_p.dtype)
    votes = (ballots * _like(share, ballots)).sum(1)
    with_ties = torch.logaddexp((votes * (1 - TIE_WEIGHT)).log(), _log_mean(log_p, share) + math.log(TIE_WEIGHT))
    return to_values(_uniform_if_absent(with_ties, present), space)


def product(expert: Tensor, present: Tensor, space: Space, temperature: Tensor) -> Tensor:
    """The log-linear pool of experts with `temperature [experts]`:

        log p = sum_m a_m log p_m / (T_m sum_m a_m) - log Z

    At T = 1 the exponents sum to one, so that experts that agree are not counted twice. Lower temperatures let evidence
    add up. Real numbers: the product of Gaussians of variance T_m, which is their mean weighted by 1 / T_m.
    """
    if space == "real":
        return average(expert, present, space, 1 / temperature)
    share = _normalized_weights(present, torch.ones_like(temperature)) / temperature
    log_p = log_distribution(expert, space)
    return to_values(_uniform_if_absent((log_p * _like(share, log_p)).sum(1), present), space)


def stack(expert: Tensor, present: Tensor, space: Space, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer over all predictions and presence flags, `weight [k, experts * k + experts]`, `bias [k]`.

    Categorical predictions enter as log-probabilities, binary ones as logits, real ones unchanged; absent ones as 0.
    """
    features = expert.log_softmax(-1) if space == "categorical" else expert
    features = torch.where(present.unsqueeze(-1), features, 0.0)
    with torch.autocast(expert.device.type, enabled=False):
        values = F.linear(torch.cat([features.flatten(1), present.to(features.dtype)], dim=1), weight, bias)
    return values.log_softmax(-1) if space == "categorical" else values


def _normalized_weights(present: Tensor, weight: Tensor) -> Tensor:
    """`weight [experts]` over present experts, normalized to sum to 1 in each row; zeros in a row without any."""
    share = present.to(weight.dtype) * weight
    return share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)


def _log_mean(log_p: Tensor, share: Tensor) -> Tensor:
    """log sum_m share_m p_m, finite also for shares of 0."""
    log_share = share.clamp_min(torch.finfo(share.dtype).tiny).log()
    return (log_p + _like(log_share, log_p)).logsumexp(1)


def _uniform_if_absent(log_p: Tensor, present: Tensor) -> Tensor:
    """The same log-probabilities, with a uniform distribution in rows without any present expert."""
    any_present = present.any(1).view(-1, *[1] * (log_p.dim() - 1))
    return torch.where(any_present, log_p, -math.log(log_p.shape[-1]))


def _like(share: Tensor, log_p: Tensor) -> Tensor:
    return share.view(*share.shape, *[1] * (log_p.dim() - 2))
