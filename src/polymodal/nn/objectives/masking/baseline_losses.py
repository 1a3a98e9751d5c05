"""Losses with the loss of a baseline that knows the position and nothing about the item."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.distributed.world import World


class LossWithBaseline(NamedTuple):
    """A loss with gradient (with several processes, the part of this one), its baseline, and the number of values that
    both average over."""

    loss: Tensor
    baseline: float
    num_values: float


class MSEWithBaseline(nn.Module):
    """Mean squared error with a baseline: the running mean of each value at each position over the training data.

    mean, count: `[positions, size]`
    """

    mean: Tensor
    count: Tensor

    def __init__(self, positions: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(positions, size))
        self.register_buffer("count", torch.zeros(positions, size))

    def forward(
        self, predicted: Tensor, values: Tensor, known: Tensor, position: Tensor, world: World
    ) -> LossWithBaseline:
        """All `[n, size]` fp32, at the positions `[n]`; values where `known` is 0 are ignored."""
        if self.training:
            self._update(values, known, position, world)
        count = world.sum(known.sum())
        scale = known / count.clamp_min(1)
        baseline = world.sum(((self.mean[position] - values).square() * scale).sum())
        return LossWithBaseline(((predicted - values).square() * scale).sum(), float(baseline), float(count))

    def _update(self, values: Tensor, known: Tensor, position: Tensor, world: World) -> None:
        added = world.sum(torch.zeros_like(self.count).index_add_(0, position, known))
        total = world.sum(torch.zeros_like(self.mean).index_add_(0, position, values * known))
        self.count += added
        self.mean += (total - added * self.mean) / self.count.clamp_min(1)


class CrossEntropyWithBaseline(nn.Module):
    """Cross-entropy with a baseline: the label frequencies in training and this batch, so that a new label has a finite
    baseline loss.

    label_counts: `[groups, labels]`, counts of the training data; one group for each position, or a single one
    """

    label_counts: Tensor

    def __init__(self, groups: int, labels: int) -> None:
        super().__init__()
        self.register_buffer("label_counts", torch.zeros(groups, labels))

    def forward(self, logits: Tensor, labels: Tensor, position: Tensor, world: World) -> LossWithBaseline:
        """Loss of `logits [n, labels]` fp32 against `labels [n]` at the positions `[n]`."""
        group = position if len(self.label_counts) > 1 else torch.zeros_like(position)
        batch_counts = torch.zeros_like(self.label_counts).index_put_(
            (group, labels), self.label_counts.new_ones(len(labels)), accumulate=True
        )
        batch_counts = world.sum(batch_counts)
        counts = self.label_counts + batch_counts
        if self.training:
            self.label_counts += batch_counts
        frequencies = counts[group, labels] / counts.sum(1)[group]
        count = world.total(len(labels))
        loss = (
            functional.cross_entropy(logits, labels)
            if world.size == 1
            else functional.cross_entropy(logits, labels, reduction="sum") / max(1.0, count)
        )
        return LossWithBaseline(loss, -float(world.sum(world.mean(frequencies.log()))), count)
