"""Perplexity of reference texts under a generative model."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from polymodal.metrics.base import Metric

#: Upper bound of the loss in nats per token; e^700 is near the largest float64.
_MAX_LOSS = 700.0


def _prepared(losses: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
    def score(weight: np.ndarray) -> float:
        nll, tokens = weight @ losses
        return math.exp(min(nll / tokens, _MAX_LOSS)) if tokens > 0 else float("nan")

    return score


#: exp(sum_i w_i nll_i / sum_i w_i tokens_i) over `losses [rows, 2]`: negative log-likelihood of each text in nats, and
#: its number of tokens including the end token. Only models with the same tokenizer can be compared (Jelinek et al.,
#: "Perplexity: a measure of the difficulty of speech recognition tasks", 1977).
PERPLEXITY = Metric(
    "perplexity",
    lambda losses, truth, weight: _prepared(losses, truth)(weight),
    greater_is_better=False,
    prepared=_prepared,
    bounds=(1.0, math.inf),
)
