"""Redundancy reduction: Barlow Twins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from polymodal.core.registry import register
from polymodal.core.types import Tokens
from polymodal.nn.layers.embedding_head import unit
from polymodal.nn.objectives.alignment import Alignment, AlignmentOptions
from polymodal.nn.objectives.base import NetworkProtocol, InputInfo, ObjectiveBatch, ObjectiveLoss
from polymodal.nn.objectives.augmented_views import AugmentedView, check_augmentable

#: How much of the running mean and variance stays at each step.
KEPT = 0.9
#: One over a temperature that suits embeddings of unit length; nothing is learned of it here.
SCALE = 10.0


@register
class BarlowTwins(Alignment):
    """The numbers of two embeddings of a row agree one by one, and tell different things (Zbontar, Jing, Misra, LeCun &
    Deny, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", 2021).

        C_ij = 1/n sum_r a_ri b_rj ;  L = 1/d ( sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2 )

    a and b are what the heads of two inputs make of n rows, each of the d numbers standardize over the batch. Rows are
    not told apart from each other, so a batch may be small, and rows that share an item do no harm. With one input, the
    two are the row and a strongly changed copy of it (see `views`). An embedding is standardize by means and
    deviations that are kept from training, and has unit length. Numbers that have nothing to do with each other cost 1.
    """

    class Options(AlignmentOptions):
        name: Literal["redundancy"] = "redundancy"
        off_diagonal: float = Field(default=0.005, ge=0, le=1)
        """lambda, the weight of agreement between different numbers."""
        strength: float = Field(default=0.5, gt=0, le=1)
        """How strongly the copy of a lone input is changed."""

    options: Options
    min_inputs: ClassVar[int] = 1
    compares_rows: ClassVar[bool] = False
    mean: Tensor
    deviation: Tensor

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.register_buffer("mean", torch.zeros(len(self.inputs), options.size))
        self.register_buffer("deviation", torch.ones(len(self.inputs), options.size))
        self._fresh: dict[str, tuple[Tensor, Tensor]] = {}
        self.lone: AugmentedView | None = None
        if len(self.inputs) == 1:
            (name,) = self.inputs
            self.lone = AugmentedView(name, check_augmentable(name, inputs[name].modality), options.strength)

    @property
    def raw_inputs(self) -> list[str]:
        return self.inputs if self.lone else []

    @property
    def scale(self) -> Tensor:
        return self.mean.new_tensor(SCALE)

    def embed(self, name: str, tokens: Tokens) -> Tensor:
        place = self.inputs.index(name)
        return unit((self.project(name, tokens) - self.mean[place]) / self.deviation[place])

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        if self.lone is None:
            return super().forward(step)
        name, tokens = self.lone.name, step.tokens[self.lone.name]
        there = tokens.present.nonzero()[:, 0]
        if len(there) < 2:
            return []
        first, second = self.project(name, tokens), self.project(name, self.lone.tokens(step))
        if self.training:
            self.keep({name: first}, step)
        loss, chance = self.align((name, name), (first[there], second[there]), step, there)
        return [ObjectiveLoss(name, loss, chance, float(len(there)))]

    def align(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        one, other = (standardize(each) for each in projected)
        correlation = one.T @ other / len(rows)
        own = correlation.diagonal()
        off = correlation.square().sum() - own.square().sum()
        return ((1 - own).square().sum() + self.options.off_diagonal * off) / len(own), 1.0

    def keep(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        for name, one in projected.items():
            rows = one[step.tokens[name].present].detach()
            if len(rows) > 1:
                self._fresh[name] = rows.mean(0), rows.std(0)

    def after_step(self, network: NetworkProtocol) -> None:
        for name, (mean, deviation) in self._fresh.items():
            place = self.inputs.index(name)
            self.mean[place] += (1 - KEPT) * (mean - self.mean[place])
            self.deviation[place] += (1 - KEPT) * (deviation.clamp_min(1e-4) - self.deviation[place])
        self._fresh = {}


def standardize(x: Tensor) -> Tensor:
    """Each column of `x [rows, size]` with mean 0 and mean square 1; a constant one is 0."""
    centred = x - x.mean(0)
    return centred / (centred.square().mean(0) + 1e-6).sqrt()
