"""Linear canonical correlation analysis of encoded inputs, solved in closed form."""

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
from polymodal.nn.objectives.base import InputInfo, NetworkProtocol, ObjectiveBatch

#: Factor on cosine similarities in a softmax: 1 / temperature. It is not trained here.
SCALE = 10.0
#: Directions whose variance is below this fraction of the largest variance are numerical noise.
MIN_VARIANCE_RATIO = 1e-6


@register
class LinearCCA(Alignment):
    """Regularized canonical correlation analysis (Hotelling, "Relations Between Two Sets of Variates", 1936; Vinod,
    "Canonical Ridge and Econometrics of Joint Production", 1976). The heads are solved in closed form, not trained by
    gradients. With frozen encoders and few pairs (hundreds), retrieval is better than with gradient-trained heads.

        R_m = (S_m + r tr(S_m)/rank(S_m) I)^-1/2 ,  R_a S_ab R_b = U diag(rho) V^T
        z_a = diag(rho)^p U^T R_a (x_a - mean x_a) ,  z_b = diag(rho)^p V^T R_b (x_b - mean x_b)

    x_m is the mean of the tokens of input m. The weighting by powers of the correlations emphasizes the shared
    directions (Gong, Ke, Isard & Lazebnik, "A Multi-View Embedding Space for Modeling Internet Images, Tags, and Their
    Semantics", 2014). More than two inputs share one space: the eigenvectors of the block matrix of all R_a S_ab R_b
    (Kettenring, "Canonical Analysis of Several Sets of Variables", 1971, MAXVAR), which equals the above for two
    inputs.

    Moments are running means over batches. The heads are solved after steps 1, 2, 4, 8 ... and before each evaluation.
    The encoders are trained by the gradient of the correlation of the embeddings, with the heads held fixed:

        L = 1 - sum_r z_a,r . z_b,r / ( sum_r |z_a,r|^2  sum_r |z_b,r|^2 )^1/2 ,  each z centered over the batch

    Unrelated inputs have a validation loss of 1, the baseline. Frozen encoders whose width is the hidden size are read
    without a projection; one epoch of one batch is then the whole training. The moments take `width^2` numbers for each
    input and each pair.
    """

    class Options(JointSpaceOptions):
        name: Literal["linear_cca"] = "linear_cca"
        regularization: float = Field(default=1.0, gt=0, le=100)
        """r, the ridge added to each variance, as a fraction of the mean variance over the directions that vary. Use
        larger values for fewer rows."""
        power: float = Field(default=0.5, ge=0, le=4)
        """p, the exponent of the correlations as weights; 0 weights all directions equally."""
        momentum: float = Field(default=0.99, ge=0, le=1)
        """Weight of the earlier rows in the running moments. 1 weights all training rows equally, which suits frozen
        encoders."""

    options: Options
    compares_rows: ClassVar[bool] = False
    steps: Tensor
    solved_step: Tensor

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.input_moments = NamedModules({name: RunningMoments(width) for name in self.inputs})
        self.pair_moments = NamedModules(
            {
                name: NamedModules({other: RunningMoments(width) for one, other in self.input_pairs if one == name})
                for name in self.inputs
            }
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("solved_step", torch.zeros((), dtype=torch.int64))
        self._pending: list[tuple[RunningMoments, Tensor, Tensor]] = []

    def head(self, width: int) -> nn.Module:
        return CenteredProjection(width, self.options.embedding_dim)

    @property
    def logit_scale(self) -> Tensor:
        return torch.tensor(SCALE, device=self.steps.device)

    def pair_loss(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        gathered = (step.world.gather_rows(z) for z in projected)
        one, other = (z - z.mean(0) for z in gathered)  # otherwise encoders can lower the loss by a common shift
        spread = one.square().sum() * other.square().sum()
        loss = 1 - (one * other).sum() / (spread + 1e-12).sqrt()
        if self.training:
            found = [step.world.gather_rows(step.tokens[name].pooled()[rows].detach().float()) for name in pair]
            self._pending.append((self.pair_moments[pair[0]][pair[1]], found[0], found[1]))
        return step.world.share(loss), 1.0

    def record_batch(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        for name in self.inputs:
            tokens: Tokens = step.tokens[name]
            found = step.world.gather_rows(tokens.pooled()[tokens.present].detach().float())
            self._pending.append((self.input_moments[name], found, found))

    def after_step(self, network: NetworkProtocol) -> None:
        with torch.autocast(self.steps.device.type, enabled=False):
            for moments, first, second in self._pending:
                moments.update(first, second, self.options.momentum)
        self._pending = []
        self.steps += 1
        if int(self.steps).bit_count() == 1:
            self.solve_heads()

    def train(self, mode: bool = True) -> Self:
        if not mode and bool(self.steps > self.solved_step):
            self.solve_heads()
        return super().train(mode)

    @torch.no_grad()
    def solve_heads(self) -> None:
        """Solve the heads from the running moments."""
        with torch.autocast(self.steps.device.type, enabled=False):
            roots = [_root(one.covariance(), self.options.regularization) for one in self.input_moments.values()]
            starts = torch.tensor([0, *(root.shape[1] for root in roots)]).cumsum(0).tolist()
            joint = torch.zeros(starts[-1], starts[-1], dtype=torch.float64, device=self.steps.device)
            for one, other in self.input_pairs:
                first, second = self.inputs.index(one), self.inputs.index(other)
                block = roots[first].T @ self.pair_moments[one][other].covariance() @ roots[second]
                joint[starts[first] : starts[first + 1], starts[second] : starts[second + 1]] = block
                joint[starts[second] : starts[second + 1], starts[first] : starts[first + 1]] = block.T
            correlations, vectors = torch.linalg.eigh(joint)
            rank = min(self.options.embedding_dim, int((correlations > MIN_VARIANCE_RATIO).sum()))
            correlations, vectors = correlations.flip(0)[:rank], vectors.flip(1)[:, :rank]
            weighted = vectors * correlations**self.options.power
            for index, (name, root) in enumerate(zip(self.inputs, roots, strict=True)):
                self._projection(name).set_projection(
                    self.input_moments[name].mean_a, root @ weighted[starts[index] : starts[index + 1]]
                )
            self.solved_step.copy_(self.steps)

    def _projection(self, name: str) -> CenteredProjection:
        head = self.heads[name]
        assert isinstance(head, CenteredProjection)
        return head


class CenteredProjection(nn.Module):
    """Centered linear projection: `x [n, width]` -> `(x - mean) weight`, `[n, size]`; zeros until `set_projection`."""

    mean: Tensor
    weight: Tensor

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("weight", torch.zeros(width, size))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return (x.float() - self.mean) @ self.weight

    def set_projection(self, mean: Tensor, weight: Tensor) -> None:
        """Set the projection. `weight [width, k]` with k <= `size`; the remaining dimensions are zero."""
        self.mean.copy_(mean)
        self.weight.zero_()
        self.weight[:, : weight.shape[1]] = weight


class RunningMoments(nn.Module):
    """Running weighted means of two vectors `[n, width]` and of their outer product."""

    weight: Tensor
    mean_a: Tensor
    mean_b: Tensor
    product: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("mean_a", torch.zeros(width))
        self.register_buffer("mean_b", torch.zeros(width))
        self.register_buffer("product", torch.zeros(width, width))

    def update(self, one: Tensor, other: Tensor, momentum: float) -> None:
        """Add rows; the earlier rows keep `momentum` of their weight."""
        self.weight.mul_(momentum).add_(len(one))
        if len(one) == 0:
            return
        ratio = len(one) / float(self.weight)
        self.mean_a.lerp_(one.mean(0), ratio)
        self.mean_b.lerp_(other.mean(0), ratio)
        self.product.lerp_(one.T @ other / len(one), ratio)

    def covariance(self) -> Tensor:
        """`[width, width]` fp64."""
        return self.product.double() - torch.outer(self.mean_a.double(), self.mean_b.double())


def _root(covariance: Tensor, ridge: float) -> Tensor:
    """`(S + ridge mean(variances) I)^-1/2` in the directions in which S varies, `[width, k]`."""
    variances, directions = torch.linalg.eigh(covariance)
    varying = variances > MIN_VARIANCE_RATIO * variances[-1].clamp_min(MIN_VARIANCE_RATIO)
    variances, directions = variances[varying], directions[:, varying]
    return directions / (variances + ridge * variances.mean()).sqrt()
