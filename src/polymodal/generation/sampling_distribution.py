"""Draws of tokens: which may be drawn, how likely each is, and draws that do not depend on what is beside a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polymodal.generation.config import GenerationConfig

#: Draws that are made at once for each text.
AHEAD = 64


def apply_repetition_penalty(logits: Tensor, written: Tensor, penalty: float) -> Tensor:
    """Logits `[n, vocabulary]` with those of the tokens `written [n, length]` divided by `penalty` where positive and
    multiplied where negative (Keskar et al., "CTRL", 2019, with the sign taken into account)."""
    if penalty == 1 or written.shape[1] == 0:
        return logits
    own = logits.gather(1, written)
    return logits.scatter(1, written, torch.where(own > 0, own / penalty, own * penalty))


def probabilities(logits: Tensor, writing: GenerationConfig) -> Tensor:
    """The distribution `[n, vocabulary]` to draw from, for a temperature above 0.

    p = softmax(logits / temperature); then, each on what the one before has left, made to sum to 1 again:
    top_k keeps the k likeliest tokens; top_p the fewest of the likeliest tokens whose sum reaches p; min_p those with
    at least the share p of the likeliest one's probability. The likeliest token always stays.
    """
    share = ((logits - logits.amax(1, keepdim=True)) / writing.temperature).softmax(-1)
    if writing.top_k is not None and writing.top_k < share.shape[1]:
        likeliest, place = share.topk(writing.top_k, dim=1)
        likeliest = _whole(likeliest)
    elif writing.top_p is not None and writing.top_p < 1:
        likeliest, place = _reaching(share, writing.top_p)
    else:
        likeliest, place = share, None
    if writing.top_p is not None and place is not None:
        likeliest = _whole(likeliest * (likeliest.cumsum(1) - likeliest < writing.top_p))
    if writing.min_p is not None:
        likeliest = _whole(likeliest * (likeliest >= writing.min_p * likeliest.amax(1, keepdim=True)))
    return likeliest if place is None else torch.zeros_like(share).scatter(1, place, likeliest)


def _reaching(share: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The likeliest tokens in order, as many as reach the sum `p` in every row, and their places."""
    most = 256
    while True:
        likeliest, place = share.topk(min(most, share.shape[1]), dim=1)
        if most >= share.shape[1] or bool((likeliest.sum(1) >= p).all()):
            return likeliest, place
        most *= 8


def _whole(share: Tensor) -> Tensor:
    return share / share.sum(1, keepdim=True)


class RowSeededUniforms:
    """Uniform numbers for texts: step t of sample s of row r gets the same one whatever else is written beside it.

    rows: the number of each row in its table
    """

    def __init__(self, seed: int, rows: Sequence[int], samples: int) -> None:
        self.draws = [np.random.default_rng([seed, row, sample]) for row in rows for sample in range(samples)]
        self.ahead = torch.zeros(len(self.draws), AHEAD, dtype=torch.float64)

    def uniform(self, texts: Tensor, step: int) -> Tensor:
        """Numbers in [0, 1) `[n]` fp64 for some texts `[n]`, on their device; steps are asked for in order from 0. They
        are drawn on the host, so that they are the same on every device."""
        if step % AHEAD == 0:
            for text in texts.tolist():
                self.ahead[text] = torch.from_numpy(self.draws[text].random(AHEAD))
        return self.ahead[texts.cpu(), step % AHEAD].to(texts.device)


def drawn(share: Tensor, uniform: Tensor) -> Tensor:
    """Tokens `[n]` drawn from `share [n, vocabulary]` by inverting the sum of probabilities at `uniform [n]`."""
    summed = share.cumsum(1, dtype=torch.float64)
    total = summed[:, -1]
    at = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(summed, at.unsqueeze(1), right=True).squeeze(1)
