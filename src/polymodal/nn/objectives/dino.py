"""Self-distillation without labels: DINO."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import InputBatch, Tokens
from polymodal.nn.layers.embedding_head import l2_normalize
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.augmented_views import AugmentedView, check_augmentable
from polymodal.nn.objectives.base import (
    InputInfo,
    NetworkProtocol,
    Objective,
    ObjectiveBatch,
    ObjectiveLoss,
    ObjectiveOptions,
)
from polymodal.nn.towers import Tower

#: Temperature of the student; that of the teacher is lower, so that its predictions are sharper.
STUDENT_TEMPERATURE = 0.1
#: Initial teacher temperature as a fraction of the option, and the fraction of training in which it rises.
INITIAL_TEMPERATURE_RATIO, TEMPERATURE_RISE = 4 / 7, 0.3
#: Weight of the earlier batches in the running mean of the teacher's logits, which is used in validation.
CENTER_MOMENTUM = 0.9


@register
class DINO(Objective):
    """Self-distillation without labels: a student predicts for one view of a row what its teacher, an exponential
    moving average of itself, predicts for another view (Caron, Touvron, Misra, Jegou, Mairal, Bojanowski & Joulin,
    "Emerging Properties in Self-Supervised Vision Transformers", 2021).

        P_t = softmax((g_t(x) - c) / tau_t) ,  P_s = softmax(g_s(x') / tau_s) ;  L = 1/2 sum_{x != x'} -P_t . log P_s
        teacher <- m teacher + (1 - m) student ,  m from `momentum` to 1 along a cosine ;  c = the batch mean of g_t

    g is the input's tower (encoder, projection and norm) and a head: an MLP, a unit vector, and its cosine similarities
    to prototypes. The paper uses a running mean as the center c and reports that the batch mean works as well. In runs
    of a few hundred steps the running mean lags and training collapses, so the batch mean is used; the running mean
    serves in validation. One view is the row with the augmentations of training, the other a strongly augmented copy
    (see `augmented_views`), so that the views differ even if the modality has no augmentations. There is no multi-crop.
    Rows are not compared with each other. The loss cannot select the best epoch, since the teacher changes: the last
    epoch is kept.

    The baseline is the logarithm of the number of prototypes. In validation there is a second loss, `NAME collapse`:
    the difference of the entropy of the teacher's mean assignment from the maximum, log(number of prototypes). It
    reaches that logarithm if all rows have the same assignment, which the training monitor reports.
    """

    class Options(ObjectiveOptions):
        name: Literal["dino"] = "dino"
        num_prototypes: int = sized_field(256, 1024, 4096, ge=2)
        """Number of prototypes."""
        hidden_size: int = sized_field(128, 512, 1024, ge=1)
        """Hidden size of the head."""
        bottleneck_dim: int = sized_field(32, 64, 256, ge=2)
        """Dimension of the unit vector that is compared with the prototypes."""
        momentum: float = Field(default=0.99, ge=0, lt=1)
        """EMA momentum of the teacher at the first step; it rises to 1. The average covers about `1 / (1 - momentum)`
        steps, which should be few in comparison with the steps of the run."""
        temperature: float = Field(default=0.02, gt=0, lt=0.1)
        """Final temperature of the teacher, reached after 30 % of training from 4/7 of it. The temperature of the
        student is 0.1."""
        augmentation_strength: float = Field(default=0.5, gt=0, le=1)
        """Strength of the augmentation of the second view."""
        koleo_weight: float = Field(default=0.0, ge=0)
        """Weight of the KoLeo loss, which spreads the student's vectors of a batch, -mean_i log min_j |x_i - x_j|
        (Sablayrolles et al., "Spreading Vectors for Similarity Search", 2019)."""

    options: Options
    usable_for_model_selection: ClassVar[bool] = False
    follows_weights: ClassVar[bool] = True
    center: Tensor
    center_is_set: Tensor
    is_initialized: Tensor

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.views = {
            name: AugmentedView(name, check_augmentable(name, inputs[name].modality), options.augmentation_strength)
            for name in self.inputs
        }
        self.heads = NamedModules(
            {
                name: PrototypeHead(width, options.hidden_size, options.bottleneck_dim, options.num_prototypes)
                for name in self.inputs
            }
        )
        self.teachers = NamedModules(
            {name: EMATeacher(_Student(Tower(inputs[name].encoder, width), head)) for name, head in self.heads.items()}
        )
        self.register_buffer("center", torch.zeros(len(self.inputs), options.num_prototypes))
        self.register_buffer("center_is_set", torch.zeros(len(self.inputs)))
        self.register_buffer("is_initialized", torch.zeros(1))
        self._pending: dict[int, Tensor] = {}
        self._progress = 0.0

    @property
    def raw_inputs(self) -> list[str]:
        return self.inputs

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        if not bool(self.is_initialized):
            self._update_teachers(step.network, 0.0)
            self.is_initialized.fill_(1)
        self._progress = step.progress
        return [term for index, name in enumerate(self.inputs) for term in self._terms(index, name, step)]

    def _terms(self, index: int, name: str, step: ObjectiveBatch) -> Iterator[ObjectiveLoss]:
        first, head = step.batch.inputs[name], self.heads[name]
        rows = first.present.nonzero()[:, 0]
        count = step.world.total(len(rows))
        if count < 2:
            return
        second = self.views[name].input_batch(step)
        changed, _ = step.network.towers[name](second)
        vectors = [head.embed(tokens.pooled()[rows]) for tokens in (step.tokens[name], changed)]
        with torch.no_grad():
            student = _Student(step.network.towers[name], head)
            teacher_logits = [self.teachers[name](student, view)[rows] for view in (first, second)]
        mean = step.world.mean_row(torch.cat(teacher_logits))
        if not bool(self.center_is_set[index]):
            self.center[index], self.center_is_set[index] = mean, 1
        if self.training:
            self._pending[index] = mean
        center = mean if self.training else self.center[index]
        targets = [((one - center) / self._temperature).softmax(1) for one in teacher_logits]
        predictions = [(head.similarities(one) / STUDENT_TEMPERATURE).log_softmax(1) for one in vectors]
        crossed = zip(targets, reversed(predictions), strict=True)
        loss = -torch.stack([step.world.mean((target * predicted).sum(1)) for target, predicted in crossed]).mean()
        if self.options.koleo_weight:
            koleo = torch.stack([koleo_loss(step.world.gather_rows(one)) for one in vectors]).mean()
            loss = loss + self.options.koleo_weight * step.world.share(koleo)
        baseline = math.log(self.options.num_prototypes)
        yield ObjectiveLoss(name, loss, baseline, count)
        if not self.training:
            ratio = torch.cat(targets).mean(0)
            yield ObjectiveLoss(f"{name} collapse", baseline + torch.xlogy(ratio, ratio).sum(), baseline, count)

    @property
    def _temperature(self) -> float:
        ratio = min(1.0, self._progress / TEMPERATURE_RISE) if self.training else 1.0
        return self.options.temperature * (INITIAL_TEMPERATURE_RATIO + (1 - INITIAL_TEMPERATURE_RATIO) * ratio)

    def after_step(self, network: NetworkProtocol) -> None:
        momentum = 1 - (1 - self.options.momentum) * (math.cos(math.pi * self._progress) + 1) / 2
        self._update_teachers(network, momentum)
        for index, mean in self._pending.items():
            self.center[index] += (1 - CENTER_MOMENTUM) * (mean - self.center[index])
        self._pending = {}

    def _update_teachers(self, network: NetworkProtocol, momentum: float) -> None:
        for name, teacher in self.teachers.items():
            teacher.update(_Student(network.towers[name], self.heads[name]), momentum)


class PrototypeHead(nn.Module):
    """Head: pooled tokens `[rows, width]` -> cosine similarities to the prototypes, `[rows, prototypes]`."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def embed(self, pooled: Tensor) -> Tensor:
        """Unit vector `[rows, bottleneck]` fp32."""
        return l2_normalize(self.mlp(pooled))

    def similarities(self, vector: Tensor) -> Tensor:
        """Cosine similarities to the prototypes."""
        with torch.autocast(vector.device.type, enabled=False):
            return vector @ l2_normalize(self.prototypes).T


class _Student(nn.Module):
    """A tower and a head as one module, so that its weights can be replaced by the teacher's."""

    def __init__(self, tower: nn.Module, head: PrototypeHead) -> None:
        super().__init__()
        self.tower, self.head = tower, head
        self.training = tower.training  # a new module is in training mode, which would set the tower to training mode

    def forward(self, batch: InputBatch) -> Tensor:
        tokens: Tokens = self.tower(batch)[0]
        return self.head.similarities(self.head.embed(tokens.pooled()))


class EMATeacher(nn.Module):
    """Exponential moving average of the trained parameters and floating-point buffers of a module. It is stored in
    buffers, so that it is saved with the model and not trained."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = list(_averaged_tensors(module))
        for index, tensor in enumerate(_averaged_tensors(module).values()):
            self.register_buffer(f"average{index}", tensor.detach().clone())

    def forward(self, module: nn.Module, batch: InputBatch) -> Tensor:
        """Output of `module` in evaluation mode with the averaged weights."""
        training = module.training
        module.eval()
        weights = dict(zip(self.names, self.buffers(), strict=True))
        output: Tensor = functional_call(module, weights, (batch,))
        module.train(training)
        return output

    @torch.no_grad()
    def update(self, module: nn.Module, momentum: float) -> None:
        """Update the average with the weights of `module`: `average <- momentum average + (1 - momentum) weights`."""
        current = _averaged_tensors(module)
        for name, average in zip(self.names, self.buffers(), strict=True):
            average.lerp_(current[name].to(average.dtype), 1 - momentum)


def _averaged_tensors(module: nn.Module) -> dict[str, Tensor]:
    held = module.named_parameters(remove_duplicate=False)  # shared parameters have several names
    frozen = {name for name, parameter in held if not parameter.requires_grad}
    return {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name not in frozen and tensor.is_floating_point()
    }


def koleo_loss(vectors: Tensor) -> Tensor:
    """KoLeo loss: minus the mean logarithm of the distance of each of `vectors [n, size]` to its nearest neighbor."""
    with torch.no_grad():
        similarity = vectors @ vectors.T
        nearest = similarity.fill_diagonal_(-2).argmax(1)
    return -(functional.pairwise_distance(vectors, vectors[nearest]) + 1e-6).log().mean()
