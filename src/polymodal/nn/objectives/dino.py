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
from polymodal.nn.layers.embedding_head import unit
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.base import NetworkProtocol, Objective, ObjectiveOptions, InputInfo, ObjectiveBatch, ObjectiveLoss
from polymodal.nn.objectives.augmented_views import AugmentedView, check_augmentable
from polymodal.nn.towers import Tower

#: The temperature of the student; the teacher's is lower, so that it is the surer of the two.
STUDENT_TEMPERATURE = 0.1
#: Where the teacher's temperature starts, as a share of the option, and the share of training in which it rises.
SHARPEST, RISING = 4 / 7, 0.3
#: How much of the running mean of the teacher's logits, for rows that are not trained on, stays at each step.
CENTRE_KEPT = 0.9


@register
class DINO(Objective):
    """A student says of one view of a row what its teacher, the running average of itself, says of another (Caron,
    Touvron, Misra, Jegou, Mairal, Bojanowski & Joulin, "Emerging Properties in Self-Supervised Vision Transformers",
    2021).

        P_t = softmax((g_t(x) - c) / tau_t) ,  P_s = softmax(g_s(x') / tau_s) ;  L = 1/2 sum_{x != x'} -P_t . log P_s
        teacher <- m teacher + (1 - m) student ,  m from `momentum` to 1 along a cosine ;  c = the batch's mean of g_t

    g is the input's tower (encoder, projection and norm) and a head: a perceptron, a unit vector, and its cosines with
    prototypes. The paper keeps a running mean as the centre c, and finds the batch's own as good; in runs of a few
    hundred steps the running one comes too late, and all rows end with one answer. It serves here on rows that are not
    trained on. One view is the row as training changes it, the other a copy that is changed strongly (see `views`), so
    that they differ even where the input's modality has no random changes of its own. There are no crops of other
    sizes. Rows are not compared with each other. Epochs cannot be compared by this loss, as the teacher moves: the last
    counts.

    Knowing nothing costs the logarithm of the number of prototypes. On rows that are not trained on there is a second
    term, `NAME collapse`: how far the teacher's mean assignment is from an even one (the logarithm of the number of
    prototypes less its entropy). It comes to that logarithm where all rows have one and the same answer, which the
    monitor then reports.
    """

    class Options(ObjectiveOptions):
        name: Literal["dino"] = "dino"
        prototypes: int = sized_field(256, 1024, 4096, ge=2)
        """How many answers there are."""
        hidden: int = sized_field(128, 512, 1024, ge=1)
        """Width of the head's hidden layer."""
        bottleneck: int = sized_field(32, 64, 256, ge=2)
        """Width of the unit vector that is compared with the prototypes."""
        momentum: float = Field(default=0.99, ge=0, lt=1)
        """How much of the teacher's weights stays at the first step; at the last, all. It averages over about
        `1 / (1 - momentum)` steps, which should be few beside those of the run."""
        temperature: float = Field(default=0.02, gt=0, lt=0.1)
        """The teacher's temperature, reached after three tenths of the training from four sevenths of it; the student's
        is 0.1."""
        strength: float = Field(default=0.5, gt=0, le=1)
        """How strongly the second view is changed."""
        koleo: float = Field(default=0.0, ge=0)
        """Weight of a loss that keeps the student's vectors of a batch apart, -mean_i log min_j |x_i - x_j|
        (Sablayrolles et al., "Spreading Vectors for Similarity Search", 2019)."""

    options: Options
    usable_for_model_selection: ClassVar[bool] = False
    centre: Tensor
    centred: Tensor
    begun: Tensor

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.views = {
            name: AugmentedView(name, check_augmentable(name, inputs[name].modality), options.strength) for name in self.inputs
        }
        self.heads = NamedModules(
            {name: PrototypeHead(width, options.hidden, options.bottleneck, options.prototypes) for name in self.inputs}
        )
        self.teachers = NamedModules(
            {name: EMATeacher(_Student(Tower(inputs[name].encoder, width), head)) for name, head in self.heads.items()}
        )
        self.register_buffer("centre", torch.zeros(len(self.inputs), options.prototypes))
        self.register_buffer("centred", torch.zeros(len(self.inputs)))
        self.register_buffer("begun", torch.zeros(1))
        self._fresh: dict[int, Tensor] = {}
        self._progress = 0.0

    @property
    def raw_inputs(self) -> list[str]:
        return self.inputs

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        if not bool(self.begun):
            self._follow(step.network, 0.0)
            self.begun.fill_(1)
        self._progress = step.progress
        return [term for place, name in enumerate(self.inputs) for term in self._terms(place, name, step)]

    def _terms(self, place: int, name: str, step: ObjectiveBatch) -> Iterator[ObjectiveLoss]:
        first, head = step.batch.inputs[name], self.heads[name]
        rows = first.present.nonzero()[:, 0]
        if len(rows) < 2:
            return
        second = self.views[name].batch(step)
        changed, _ = step.network.towers[name](second)
        vectors = [head.vector(tokens.pooled()[rows]) for tokens in (step.tokens[name], changed)]
        with torch.no_grad():
            student = _Student(step.network.towers[name], head)
            taught = [self.teachers[name](student, view)[rows] for view in (first, second)]
        mean = torch.cat(taught).mean(0)
        if not bool(self.centred[place]):
            self.centre[place], self.centred[place] = mean, 1
        if self.training:
            self._fresh[place] = mean
        centre = mean if self.training else self.centre[place]
        answers = [((one - centre) / self._temperature).softmax(1) for one in taught]
        guesses = [(head.compare(one) / STUDENT_TEMPERATURE).log_softmax(1) for one in vectors]
        crossed = zip(answers, reversed(guesses), strict=True)
        loss = -torch.stack([(answer * guess).sum(1).mean() for answer, guess in crossed]).mean()
        if self.options.koleo:
            loss = loss + self.options.koleo * torch.stack([koleo_loss(one) for one in vectors]).mean()
        even = math.log(self.options.prototypes)
        yield ObjectiveLoss(name, loss, even, float(len(rows)))
        if not self.training:
            share = torch.cat(answers).mean(0)
            yield ObjectiveLoss(f"{name} collapse", even + torch.xlogy(share, share).sum(), even, float(len(rows)))

    @property
    def _temperature(self) -> float:
        share = min(1.0, self._progress / RISING) if self.training else 1.0
        return self.options.temperature * (SHARPEST + (1 - SHARPEST) * share)

    def after_step(self, network: NetworkProtocol) -> None:
        kept = 1 - (1 - self.options.momentum) * (math.cos(math.pi * self._progress) + 1) / 2
        self._follow(network, kept)
        for place, mean in self._fresh.items():
            self.centre[place] += (1 - CENTRE_KEPT) * (mean - self.centre[place])
        self._fresh = {}

    def _follow(self, network: NetworkProtocol, kept: float) -> None:
        for name, teacher in self.teachers.items():
            teacher.follow(_Student(network.towers[name], self.heads[name]), kept)


class PrototypeHead(nn.Module):
    """What is said of a summary `[rows, width]`: its cosine with each of the prototypes, `[rows, prototypes]`."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.map = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def vector(self, pooled: Tensor) -> Tensor:
        """The unit vector `[rows, bottleneck]` fp32."""
        return unit(self.map(pooled))

    def compare(self, vector: Tensor) -> Tensor:
        """Cosines with the prototypes."""
        with torch.autocast(vector.device.type, enabled=False):
            return vector @ unit(self.prototypes).T


class _Student(nn.Module):
    """A tower and a head, as one module whose weights can be exchanged for the teacher's."""

    def __init__(self, tower: nn.Module, head: PrototypeHead) -> None:
        super().__init__()
        self.tower, self.head = tower, head
        self.training = tower.training  # a new module would count as training, and put the tower back to that

    def forward(self, batch: InputBatch) -> Tensor:
        tokens: Tokens = self.tower(batch)[0]
        return self.head.compare(self.head.vector(tokens.pooled()))


class EMATeacher(nn.Module):
    """The running average of what learns in a module and of its floating-point buffers, held in buffers of its own, so
    that it is saved with the model and with a checkpoint and never learns by itself."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = list(_changing(module))
        for place, tensor in enumerate(_changing(module).values()):
            self.register_buffer(f"average{place}", tensor.detach().clone())

    def forward(self, module: nn.Module, batch: InputBatch) -> Tensor:
        """What `module` says in evaluation mode with these weights in place of its own."""
        training = module.training
        module.eval()
        weights = dict(zip(self.names, self.buffers(), strict=True))
        found: Tensor = functional_call(module, weights, (batch,))
        module.train(training)
        return found

    @torch.no_grad()
    def follow(self, module: nn.Module, kept: float) -> None:
        """Move towards the weights of `module`, of which `1 - kept` is taken over."""
        current = _changing(module)
        for name, average in zip(self.names, self.buffers(), strict=True):
            average.lerp_(current[name].to(average.dtype), 1 - kept)


def _changing(module: nn.Module) -> dict[str, Tensor]:
    still = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {
        name: tensor for name, tensor in module.state_dict().items() if name not in still and tensor.is_floating_point()
    }


def koleo_loss(vectors: Tensor) -> Tensor:
    """Minus the mean logarithm of the distance of each of `vectors [n, size]` from its nearest neighbour."""
    with torch.no_grad():
        similarity = vectors @ vectors.T
        nearest = similarity.fill_diagonal_(-2).argmax(1)
    return -(functional.pairwise_distance(vectors, vectors[nearest]) + 1e-6).log().mean()
