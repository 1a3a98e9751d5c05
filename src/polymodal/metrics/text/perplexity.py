"""How surprising known texts are to a model that writes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from polymodal.metrics.base import Metric

#: Above it nats a token are no longer told apart; e^700 is near the largest number that there is.
_MOST = 700.0


def _prepared(losses: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
    def score(weight: np.ndarray) -> float:
        nats, tokens = weight @ losses
        return math.exp(min(nats / tokens, _MOST)) if tokens > 0 else float("nan")

    return score


#: exp(sum_i w_i nats_i / sum_i w_i tokens_i) over `losses [rows, 2]`: the negative log-likelihood of each row's text in
#: nats, and its tokens with the end. It depends on the tokens: only models with the same tokenizer can be compared
#: (Jelinek et al., "Perplexity: a measure of the difficulty of speech recognition tasks", 1977).
PERPLEXITY = Metric(
    "perplexity",
    lambda losses, truth, weight: _prepared(losses, truth)(weight),
    greater_is_better=False,
    prepared=_prepared,
)
