"""Sampling of tokens: temperature, top-k, top-p and min-p filters, and random draws that are reproducible per row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polymodal.generation.config import GenerationConfig

#: Number of random draws that are made at once for each text.
BUFFER_SIZE = 64


def apply_repetition_penalty(logits: Tensor, generated: Tensor, penalty: float) -> Tensor:
    """Penalize repetition: of `logits [n, vocabulary]`, those of the tokens in `generated [n, length]` are divided by
    `penalty` if positive and multiplied by it if negative (Keskar et al., "CTRL", 2019, with a rule for the sign)."""
    if penalty == 1 or generated.shape[1] == 0:
        return logits
    repeated = logits.gather(1, generated)
    return logits.scatter(1, generated, torch.where(repeated > 0, repeated / penalty, repeated * penalty))


def probabilities(logits: Tensor, config: GenerationConfig) -> Tensor:
    """The sampling distribution `[n, vocabulary]` for a temperature above 0.

    p = softmax(logits / temperature), followed by the filters in this order, each with renormalization: top_k keeps the
    k most likely tokens; top_p keeps the smallest set of most likely tokens whose total probability reaches p; min_p
    keeps tokens whose probability is at least p times that of the most likely token. The most likely token always
    remains.
    """
    p = ((logits - logits.amax(1, keepdim=True)) / config.temperature).softmax(-1)
    if config.top_k is not None and config.top_k < p.shape[1]:
        top, index = p.topk(config.top_k, dim=1)
        top = _renormalize(top)
    elif config.top_p is not None and config.top_p < 1:
        top, index = _most_likely(p, config.top_p)
    else:
        top, index = p, None
    if config.top_p is not None and index is not None:
        top = _renormalize(top * (top.cumsum(1) - top < config.top_p))
    if config.min_p is not None:
        top = _renormalize(top * (top >= config.min_p * top.amax(1, keepdim=True)))
    return top if index is None else torch.zeros_like(p).scatter(1, index, top)


def _most_likely(p: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The most likely tokens in descending order, enough to reach `threshold` in every row, and their indices."""
    count = 256
    while True:
        top, index = p.topk(min(count, p.shape[1]), dim=1)
        if count >= p.shape[1] or bool((top.sum(1) >= threshold).all()):
            return top, index
        count *= 8


def _renormalize(p: Tensor) -> Tensor:
    return p / p.sum(1, keepdim=True)


class RowSeededUniforms:
    """Uniform random numbers: step t of sample s of row r gets the same number whatever the rest of the batch is.

    row_numbers: number of each row in its table
    """

    def __init__(self, seed: int, row_numbers: Sequence[int], samples: int) -> None:
        self.generators = [np.random.default_rng([seed, row, n]) for row in row_numbers for n in range(samples)]
        self.buffer = torch.zeros(len(self.generators), BUFFER_SIZE, dtype=torch.float64)

    def uniform(self, texts: Tensor, step: int) -> Tensor:
        """Numbers in [0, 1), `[n]` fp64, for the texts with indices `texts [n]`, on their device.

        Steps must be requested in order from 0. The numbers are drawn on the CPU, so that they are the same on every
        device.
        """
        if step % BUFFER_SIZE == 0:
            for text in texts.tolist():
                self.buffer[text] = torch.from_numpy(self.generators[text].random(BUFFER_SIZE))
        return self.buffer[texts.cpu(), step % BUFFER_SIZE].to(texts.device)


def sample(p: Tensor, uniform: Tensor) -> Tensor:
    """Tokens `[n]` sampled from `p [n, vocabulary]` by inverting the cumulative distribution at `uniform [n]`."""
    cumulative = p.cumsum(1, dtype=torch.float64)
    total = cumulative[:, -1]
    target = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target.unsqueeze(1), right=True).squeeze(1)
