"""Deep canonical correlation analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import Tokens
from polymodal.nn.layers.embedding_head import l2_normalize
from polymodal.nn.objectives.alignment import Alignment, AlignmentOptions
from polymodal.nn.objectives.barlow_twins import standardize
from polymodal.nn.objectives.base import InputInfo, NetworkProtocol, ObjectiveBatch

#: Factor on cosine similarities in a softmax: 1 / temperature. It is not trained here.
SCALE = 10.0


@register
class DeepCCA(Alignment):
    """Deep canonical correlation analysis: maximizes the correlation of two embeddings, dimension by dimension, while
    the dimensions of each embedding are whitened (Andrew, Arora, Bilmes & Livescu, "Deep Canonical Correlation
    Analysis", 2013).

        S_m = cov(z_m) + r I = R_m R_m^T ,  w_m = R_m^-1 (z_m - mean z_m) ;  L = 1 - 1/d sum_i corr(w_a,i, w_b,i)

    For linear heads on frozen encoders the optimum is that of linear CCA: the heads can rotate either space, so that
    the sum of the correlations reaches the sum of the singular values of S_a^-1/2 S_ab S_b^-1/2, the paper's objective.
    Since correlations are computed dimension by dimension, more than two inputs share one space, pair by pair
    (Kettenring, "Canonical Analysis of Several Sets of Variables", 1971, SUMCOR).

    Covariances are running means over batches; only the newest batch carries a gradient (after Wang, Arora, Livescu &
    Srebro, "Stochastic Optimization for Deep CCA via Nonlinear Orthogonal Iterations", 2015), so that batches may be
    small. Validation and embedding use the means and covariances of training, so that unrelated inputs have a
    validation loss of 1.
    """

    class Options(AlignmentOptions):
        name: Literal["cca"] = "cca"
        embedding_dim: int = sized_field(16, 32, 64, ge=2)
        """Embedding dimension: the number of canonical correlations."""
        regularization: float = Field(default=1e-3, gt=0, le=1)
        """r, the ridge added to each variance before whitening, as a fraction of the mean variance."""
        momentum: float = Field(default=0.9, ge=0, lt=1)
        """Weight of the earlier batches in the running means and covariances."""

    options: Options
    compares_rows: ClassVar[bool] = False
    mean: Tensor
    covariance: Tensor
    is_initialized: Tensor

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        count, size = len(self.inputs), options.embedding_dim
        self.register_buffer("mean", torch.zeros(count, size))
        self.register_buffer("covariance", torch.eye(size).repeat(count, 1, 1))
        self.register_buffer("is_initialized", torch.zeros(count))
        self._pending: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def logit_scale(self) -> Tensor:
        return self.mean.new_tensor(SCALE)

    def embed(self, name: str, tokens: Tokens) -> Tensor:
        index = self.inputs.index(name)
        return l2_normalize(self._whiten(self.project(name, tokens), self.mean[index], self.covariance[index]))

    def pair_loss(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        first, second = (
            self._whiten(z, *self._statistics(self.inputs.index(name), z))
            for name, z in zip(pair, map(step.world.gather_rows, projected), strict=True)
        )
        return step.world.share(1 - (standardize(first) * standardize(second)).mean()), 1.0

    def _statistics(self, index: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of an input; in training they include the rows `z [n, size]`."""
        if not self.training:
            return self.mean[index], self.covariance[index]
        momentum = self.options.momentum if bool(self.is_initialized[index]) else 0.0
        mean, covariance = mean_and_covariance(z)
        return (
            torch.lerp(mean, self.mean[index], momentum),
            torch.lerp(covariance, self.covariance[index], momentum),
        )

    def _whiten(self, z: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
        size = len(mean)
        ridge = self.options.regularization * covariance.diagonal().mean() + 1e-6
        root = torch.linalg.cholesky(covariance + ridge * torch.eye(size, device=covariance.device))
        return torch.linalg.solve_triangular(root, (z - mean).T, upper=False).T

    def record_batch(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        for name, projection in projected.items():
            rows = step.world.gather_rows(projection[step.tokens[name].present].detach())
            if len(rows) > 1:
                self._pending[name] = mean_and_covariance(rows)

    def after_step(self, network: NetworkProtocol) -> None:
        for name, (mean, covariance) in self._pending.items():
            index = self.inputs.index(name)
            momentum = self.options.momentum if bool(self.is_initialized[index]) else 0.0
            self.mean[index] = torch.lerp(mean, self.mean[index], momentum)
            self.covariance[index] = torch.lerp(covariance, self.covariance[index], momentum)
            self.is_initialized[index] = 1
        self._pending = {}


def mean_and_covariance(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `[size]` and covariance `[size, size]` of rows `[n, size]`."""
    mean = z.mean(0)
    return mean, (z - mean).T @ (z - mean) / (len(z) - 1)
