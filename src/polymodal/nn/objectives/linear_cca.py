"""Canonical correlation analysis between what the encoders make of the inputs, solved in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.core.types import Tokens
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.alignment import Alignment, JointSpaceOptions
from polymodal.nn.objectives.base import NetworkProtocol, InputInfo, ObjectiveBatch

#: One over a temperature that suits embeddings of unit length; nothing is learned of it here.
SCALE = 10.0
#: Directions with a smaller share of the largest variance than this are noise of the arithmetic.
LEAST = 1e-6


@register
class LinearCCA(Alignment):
    """Regularised canonical correlation analysis (Hotelling, "Relations Between Two Sets of Variates", 1936; Vinod,
    "Canonical Ridge and Econometrics of Joint Production", 1976): its heads are solved, not learned by steps. Where
    encoders are frozen and pairs are few (hundreds), it finds partners better than heads that gradients train.

        R_m = (S_m + r tr(S_m)/rank(S_m) I)^-1/2 ,  R_a S_ab R_b = U diag(rho) V^T
        z_a = diag(rho)^p U^T R_a (x_a - mean x_a) ,  z_b = diag(rho)^p V^T R_b (x_b - mean x_b)

    x_m is the mean of the tokens of input m. Weighting by powers of the correlations makes the cosine rely on what both
    inputs tell (Gong, Ke, Isard & Lazebnik, "A Multi-View Embedding Space for Modeling Internet Images, Tags, and
    Their Semantics", 2014). More than two inputs share one space: the eigenvectors of all R_a S_ab R_b in one matrix
    (Kettenring, "Canonical Analysis of Several Sets of Variables", 1971, MAXVAR), which are the above for two.

    Moments are means over the batches so far. The heads are solved anew after 1, 2, 4, 8 ... steps and before each
    evaluation. What the encoders learn follows the gradient of the embeddings' correlation, with the heads held:

        L = 1 - sum_r z_a,r . z_b,r / ( sum_r |z_a,r|^2  sum_r |z_b,r|^2 )^1/2 ,  each z less its mean over the batch

    Unrelated inputs cost 1 on rows that are not trained on. Frozen encoders whose width is that of the recipe are read
    as they are; then one epoch of one batch is the whole training. It keeps the moments: `width^2` numbers for each
    input and each pair.
    """

    class Options(JointSpaceOptions):
        name: Literal["linear_cca"] = "linear_cca"
        ridge: float = Field(default=1.0, gt=0, le=100)
        """r, the share of the mean variance that is added to each variance, over the directions that vary at all: the
        fewer the rows, the more."""
        power: float = Field(default=0.5, ge=0, le=4)
        """p: 0 counts every direction the same."""
        momentum: float = Field(default=0.99, ge=0, le=1)
        """How much of the weight of earlier rows stays at each step; 1: all rows of training count the same, which
        suits encoders that do not learn."""

    options: Options
    compares_rows: ClassVar[bool] = False
    steps: Tensor
    solved: Tensor

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.own = NamedModules({name: Moments(width) for name in self.inputs})
        self.across = NamedModules(
            {
                name: NamedModules({other: Moments(width) for one, other in self.pairs if one == name})
                for name in self.inputs
            }
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("solved", torch.zeros((), dtype=torch.int64))
        self._fresh: list[tuple[Moments, Tensor, Tensor]] = []

    def head(self, width: int) -> nn.Module:
        return CenteredProjection(width, self.options.size)

    @property
    def scale(self) -> Tensor:
        return torch.tensor(SCALE, device=self.steps.device)

    def align(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        one, other = (z - z.mean(0) for z in projected)  # else encoders learn to shift both the same way
        spread = one.square().sum() * other.square().sum()
        loss = 1 - (one * other).sum() / (spread + 1e-12).sqrt()
        if self.training:
            found = [step.tokens[name].pooled()[rows].detach().float() for name in pair]
            self._fresh.append((self.across[pair[0]][pair[1]], found[0], found[1]))
        return loss, 1.0

    def keep(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        for name in self.inputs:
            tokens: Tokens = step.tokens[name]
            found = tokens.pooled()[tokens.present].detach().float()
            self._fresh.append((self.own[name], found, found))

    def after_step(self, network: NetworkProtocol) -> None:
        with torch.autocast(self.steps.device.type, enabled=False):
            for moments, one, other in self._fresh:
                moments.add(one, other, self.options.momentum)
        self._fresh = []
        self.steps += 1
        if int(self.steps).bit_count() == 1:
            self.solve()

    def train(self, mode: bool = True) -> Self:
        if not mode and bool(self.steps > self.solved):
            self.solve()
        return super().train(mode)

    @torch.no_grad()
    def solve(self) -> None:
        """Put the heads where the moments so far say."""
        with torch.autocast(self.steps.device.type, enabled=False):
            roots = [_root(one.covariance(), self.options.ridge) for one in self.own.values()]
            starts = torch.tensor([0, *(root.shape[1] for root in roots)]).cumsum(0).tolist()
            joint = torch.zeros(starts[-1], starts[-1], dtype=torch.float64, device=self.steps.device)
            for one, other in self.pairs:
                first, second = self.inputs.index(one), self.inputs.index(other)
                block = roots[first].T @ self.across[one][other].covariance() @ roots[second]
                joint[starts[first] : starts[first + 1], starts[second] : starts[second + 1]] = block
                joint[starts[second] : starts[second + 1], starts[first] : starts[first + 1]] = block.T
            correlations, vectors = torch.linalg.eigh(joint)
            most = min(self.options.size, int((correlations > LEAST).sum()))
            correlations, vectors = correlations.flip(0)[:most], vectors.flip(1)[:, :most]
            weighted = vectors * correlations**self.options.power
            for place, (name, root) in enumerate(zip(self.inputs, roots, strict=True)):
                self._centred(name).put(self.own[name].one, root @ weighted[starts[place] : starts[place + 1]])
            self.solved.copy_(self.steps)

    def _centred(self, name: str) -> CenteredProjection:
        found = self.heads[name]
        assert isinstance(found, CenteredProjection)
        return found


class CenteredProjection(nn.Module):
    """`x [n, width]` -> `(x - mean) map`, `[n, size]`; all zeros until it is put somewhere."""

    mean: Tensor
    map: Tensor

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("map", torch.zeros(width, size))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return (x.float() - self.mean) @ self.map

    def put(self, mean: Tensor, found: Tensor) -> None:
        """`found [width, k]`, k at most `size`: the other numbers are zero."""
        self.mean.copy_(mean)
        self.map.zero_()
        self.map[:, : found.shape[1]] = found


class Moments(nn.Module):
    """Weighted means of two vectors `[n, width]` each and of their products, over all rows that were added."""

    weight: Tensor
    one: Tensor
    other: Tensor
    product: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("one", torch.zeros(width))
        self.register_buffer("other", torch.zeros(width))
        self.register_buffer("product", torch.zeros(width, width))

    def add(self, one: Tensor, other: Tensor, momentum: float) -> None:
        """Add rows; what was there keeps `momentum` of its weight."""
        self.weight.mul_(momentum).add_(len(one))
        if len(one) == 0:
            return
        share = len(one) / float(self.weight)
        self.one.lerp_(one.mean(0), share)
        self.other.lerp_(other.mean(0), share)
        self.product.lerp_(one.T @ other / len(one), share)

    def covariance(self) -> Tensor:
        """`[width, width]` fp64."""
        return self.product.double() - torch.outer(self.one.double(), self.other.double())


def _root(covariance: Tensor, ridge: float) -> Tensor:
    """`(S + ridge mean-variance I)^-1/2` in the directions in which S varies, `[width, k]`."""
    variances, directions = torch.linalg.eigh(covariance)
    kept = variances > LEAST * variances[-1].clamp_min(LEAST)
    variances, directions = variances[kept], directions[:, kept]
    return directions / (variances + ridge * variances.mean()).sqrt()
