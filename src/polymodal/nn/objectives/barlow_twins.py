"""Barlow Twins: redundancy reduction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from polymodal.core.needs import Needs
from polymodal.core.registry import register
from polymodal.core.types import Tokens
from polymodal.nn.layers.embedding_head import l2_normalize
from polymodal.nn.objectives.alignment import Alignment, AlignmentOptions
from polymodal.nn.objectives.augmented_views import AugmentedView, check_augmentable
from polymodal.nn.objectives.base import InputInfo, NetworkProtocol, ObjectiveBatch, ObjectiveLoss

#: Weight of the earlier batches in the running mean and standard deviation.
MOMENTUM = 0.9
#: Factor on cosine similarities in a softmax: 1 / temperature. It is not trained here.
SCALE = 10.0


_ONE_INPUT = Needs("a single input", lambda own, run: len(own.inputs or run.recipe.inputs) == 1)


@register
class BarlowTwins(Alignment):
    """Makes two embeddings of a row equal, and their dimensions uncorrelated (Zbontar, Jing, Misra, LeCun & Deny,
    "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", 2021).

        C_ij = 1/n sum_r a_ri b_rj ;  L = 1/d ( sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2 )

    a and b are the projections of two inputs in n rows, each of the d dimensions standardized over the batch. Rows are
    not compared with each other, so that batches may be small and rows may share items. With a single input, a and b
    are the row and an augmented copy of it (see `augmented_views`). Embeddings are standardized with the running mean
    and standard deviation of training, and have unit length. Uncorrelated embeddings have a loss of 1, the baseline.
    """

    class Options(AlignmentOptions):
        name: Literal["barlow_twins"] = "barlow_twins"
        off_diagonal_weight: float = Field(default=0.005, ge=0, le=1)
        """lambda, the weight of the off-diagonal terms."""
        augmentation_strength: Annotated[float, _ONE_INPUT] = Field(default=0.5, gt=0, le=1)
        """Strength of the augmentation if there is a single input."""

    options: Options
    min_inputs: ClassVar[int] = 1
    compares_rows: ClassVar[bool] = False
    mean: Tensor
    std: Tensor

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.register_buffer("mean", torch.zeros(len(self.inputs), options.embedding_dim))
        self.register_buffer("std", torch.ones(len(self.inputs), options.embedding_dim))
        self._pending: dict[str, tuple[Tensor, Tensor]] = {}
        self.view: AugmentedView | None = None
        if len(self.inputs) == 1:
            (name,) = self.inputs
            self.view = AugmentedView(
                name, check_augmentable(name, inputs[name].modality), options.augmentation_strength
            )

    @property
    def raw_inputs(self) -> list[str]:
        return self.inputs if self.view else []

    @property
    def logit_scale(self) -> Tensor:
        return self.mean.new_tensor(SCALE)

    def embed(self, name: str, tokens: Tokens) -> Tensor:
        index = self.inputs.index(name)
        return l2_normalize((self.project(name, tokens) - self.mean[index]) / self.std[index])

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        if self.view is None:
            return super().forward(step)
        name, tokens = self.view.name, step.tokens[self.view.name]
        present = tokens.present.nonzero()[:, 0]
        count = step.world.total(len(present))
        if count < 2:
            return []
        first, second = self.project(name, tokens), self.project(name, self.view.tokens(step))
        if self.training:
            self.record_batch({name: first}, step)
        loss, baseline = self.pair_loss((name, name), (first[present], second[present]), step, present)
        return [ObjectiveLoss(name, loss, baseline, count)]

    def pair_loss(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        first, second = (standardize(step.world.gather_rows(each)) for each in projected)
        correlation = first.T @ second / len(first)
        diagonal = correlation.diagonal()
        off_diagonal = correlation.square().sum() - diagonal.square().sum()
        loss = ((1 - diagonal).square().sum() + self.options.off_diagonal_weight * off_diagonal) / len(diagonal)
        return step.world.share(loss), 1.0

    def record_batch(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        for name, projection in projected.items():
            rows = step.world.gather_rows(projection[step.tokens[name].present].detach())
            if len(rows) > 1:
                self._pending[name] = rows.mean(0), rows.std(0)

    def after_step(self, network: NetworkProtocol) -> None:
        for name, (mean, std) in self._pending.items():
            index = self.inputs.index(name)
            self.mean[index] += (1 - MOMENTUM) * (mean - self.mean[index])
            self.std[index] += (1 - MOMENTUM) * (std.clamp_min(1e-4) - self.std[index])
        self._pending = {}


def standardize(x: Tensor) -> Tensor:
    """Standardize the columns of `x [rows, size]` to mean 0 and variance 1; a constant column becomes 0."""
    centered = x - x.mean(0)
    return centered / (centered.square().mean(0) + 1e-6).sqrt()
