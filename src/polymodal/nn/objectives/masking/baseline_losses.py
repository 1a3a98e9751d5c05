"""Losses beside those of knowing nothing: of the best guess that knows the place, and nothing of the item."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class LossWithBaseline(NamedTuple):
    """A loss and that of knowing nothing, both means over so many `numbers` (or labels); the first has a gradient."""

    loss: Tensor
    chance: float
    numbers: float


class MSEWithBaseline(nn.Module):
    """The squared error of numbers, beside that of the mean of this number at this place over all that training showed.

    mean, count: `[places, size]`
    """

    mean: Tensor
    count: Tensor

    def __init__(self, places: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(places, size))
        self.register_buffer("count", torch.zeros(places, size))

    def forward(self, decided: Tensor, values: Tensor, known: Tensor, place: Tensor) -> LossWithBaseline:
        """All `[n, size]` fp32, of the places `[n]`; where `known` is 0 nothing counts."""
        if self.training:
            self._learn(values, known, place)
        count = known.sum()
        scale = known / count.clamp_min(1)
        chance = ((self.mean[place] - values).square() * scale).sum()
        return LossWithBaseline(((decided - values).square() * scale).sum(), float(chance), float(count))

    def _learn(self, values: Tensor, known: Tensor, place: Tensor) -> None:
        more = torch.zeros_like(self.count).index_add_(0, place, known)
        total = torch.zeros_like(self.mean).index_add_(0, place, values * known)
        self.count += more
        self.mean += (total - more * self.mean) / self.count.clamp_min(1)


class CrossEntropyWithBaseline(nn.Module):
    """The cross-entropy of labels, beside that of their shares in training and in this batch, so that none that is new
    costs without end.

    seen: `[groups, labels]`, how often training showed each; a group for each place, or one for all
    """

    seen: Tensor

    def __init__(self, groups: int, labels: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(groups, labels))

    def forward(self, logits: Tensor, labels: Tensor, place: Tensor) -> LossWithBaseline:
        """Of `logits [n, labels]` fp32 and `labels [n]` at the places `[n]`."""
        group = place if len(self.seen) > 1 else torch.zeros_like(place)
        fresh = torch.zeros_like(self.seen).index_put_(
            (group, labels), self.seen.new_ones(len(labels)), accumulate=True
        )
        counts = self.seen + fresh
        if self.training:
            self.seen += fresh
        shares = counts[group, labels] / counts.sum(1)[group]
        return LossWithBaseline(functional.cross_entropy(logits, labels), float(-shares.log().mean()), float(len(labels)))
