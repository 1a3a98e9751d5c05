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
from polymodal.nn.layers.embedding_head import unit
from polymodal.nn.objectives.alignment import Alignment, AlignmentOptions
from polymodal.nn.objectives.base import NetworkProtocol, InputInfo, ObjectiveBatch
from polymodal.nn.objectives.barlow_twins import standardize

#: One over a temperature that suits embeddings of unit length; nothing is learned of it here.
SCALE = 10.0


@register
class DeepCCA(Alignment):
    """The numbers of two embeddings correlate as much as they can, while those of each are uncorrelated and of equal
    spread (Andrew, Arora, Bilmes & Livescu, "Deep Canonical Correlation Analysis", 2013).

        S_m = cov(z_m) + r I = R_m R_m^T ,  w_m = R_m^-1 (z_m - mean z_m) ;  L = 1 - 1/d sum_i corr(w_a,i, w_b,i)

    For linear maps behind fixed encoders the maximum is that of canonical correlation analysis: the heads can turn
    either space, so that the sum of the correlations reaches the sum of the singular values of S_a^-1/2 S_ab S_b^-1/2
    which the paper maximises. Correlated number by number, more than two inputs share one space, pairwise (Kettenring,
    "Canonical Analysis of Several Sets of Variables", 1971, SUMCOR). Covariances are means over the batches so far, of
    which the newest carries the gradient (after Wang, Arora, Livescu & Srebro, "Stochastic Optimization for Deep CCA
    via Nonlinear Orthogonal Iterations", 2015): a batch may be small. On rows that are not trained on, and in an
    embedding, means and covariances are those that training kept, so that unrelated inputs cost 1 there.
    """

    class Options(AlignmentOptions):
        name: Literal["cca"] = "cca"
        size: int = sized_field(16, 32, 64, ge=2)
        """Numbers in an embedding: how many correlations are sought."""
        ridge: float = Field(default=1e-3, gt=0, le=1)
        """r, the share of the mean variance that is added to each variance before whitening."""
        momentum: float = Field(default=0.9, ge=0, lt=1)
        """How much of the means and covariances of earlier batches stays at each step."""

    options: Options
    compares_rows: ClassVar[bool] = False
    mean: Tensor
    covariance: Tensor
    seen: Tensor

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        count, size = len(self.inputs), options.size
        self.register_buffer("mean", torch.zeros(count, size))
        self.register_buffer("covariance", torch.eye(size).repeat(count, 1, 1))
        self.register_buffer("seen", torch.zeros(count))
        self._fresh: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def scale(self) -> Tensor:
        return self.mean.new_tensor(SCALE)

    def embed(self, name: str, tokens: Tokens) -> Tensor:
        place = self.inputs.index(name)
        return unit(self._whitened(self.project(name, tokens), self.mean[place], self.covariance[place]))

    def align(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        one, other = (
            self._whitened(z, *self._statistics(self.inputs.index(name), z))
            for name, z in zip(pair, projected, strict=True)
        )
        return 1 - (standardize(one) * standardize(other)).mean(), 1.0

    def _statistics(self, place: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of an input; in training, those of the rows `z [n, size]` have their part in them."""
        if not self.training:
            return self.mean[place], self.covariance[place]
        kept = self.options.momentum if bool(self.seen[place]) else 0.0
        mean, covariance = moments(z)
        return (
            torch.lerp(mean, self.mean[place], kept),
            torch.lerp(covariance, self.covariance[place], kept),
        )

    def _whitened(self, z: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
        size = len(mean)
        ridge = self.options.ridge * covariance.diagonal().mean() + 1e-6
        root = torch.linalg.cholesky(covariance + ridge * torch.eye(size, device=covariance.device))
        return torch.linalg.solve_triangular(root, (z - mean).T, upper=False).T

    def keep(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        for name, one in projected.items():
            rows = one[step.tokens[name].present].detach()
            if len(rows) > 1:
                self._fresh[name] = moments(rows)

    def after_step(self, network: NetworkProtocol) -> None:
        for name, (mean, covariance) in self._fresh.items():
            place = self.inputs.index(name)
            kept = self.options.momentum if bool(self.seen[place]) else 0.0
            self.mean[place] = torch.lerp(mean, self.mean[place], kept)
            self.covariance[place] = torch.lerp(covariance, self.covariance[place], kept)
            self.seen[place] = 1
        self._fresh = {}


def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `[size]` and covariance `[size, size]` of rows `[n, size]`."""
    mean = z.mean(0)
    return mean, (z - mean).T @ (z - mean) / (len(z) - 1)
