"""Cross-modal distillation: one input is the teacher of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.needs import needs_value
from polymodal.core.registry import register
from polymodal.nn.layers.embedding_head import EmbeddingHead, l2_normalize
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.barlow_twins import standardize
from polymodal.nn.objectives.base import InputInfo, Objective, ObjectiveBatch, ObjectiveLoss, ObjectiveOptions

_FEATURES = needs_value("match", "features", "both")


@register
class CrossModalDistillation(Objective):
    """Cross-modal distillation: each other input predicts the features of the teacher input (Gupta, Hoffman & Malik,
    "Cross Modal Distillation for Supervision Transfer", 2016), or the distances between rows (Park, Kim, Lu & Cho,
    "Relational Knowledge Distillation", 2019, distance-wise).

        s = Head_m(mean of the tokens of m) ,  t = mean of the teacher's tokens, without gradient, each of its width
            dimensions standardized over the batch
        squared_error:  L = mean_i |s_i - t_i|^2 / width
        cosine:         L = 1 - mean_i cos(s_i, t_i)
        relations:      L = mean_{i < j} huber( |s_i - s_j| / mean |s - s'| - |t_i - t_j| / mean |t - t'| )

    The teacher should have a frozen pretrained encoder, or be trained by another objective or an output: this loss does
    not train it, and the training monitor reports that it receives no gradient. The baseline is the loss of a constant
    prediction: the mean (squared error: 1), the mean direction (cosine: 1 - |mean of t / |t||), or equal distances
    between all rows (relations).
    """

    class Options(ObjectiveOptions):
        name: Literal["cross_modal_distillation"] = "cross_modal_distillation"
        teacher: str | None = None
        """The teacher input. Default: the first input. All other inputs are students."""
        match: Literal["features", "relations", "both"] = "features"
        """What is distilled: the features of each row, the distances between rows, or both."""
        distance: Annotated[Literal["squared_error", "cosine"], _FEATURES] = "squared_error"
        """Distance between student and teacher features."""
        hidden_size: int | None = Field(default=None, ge=1)
        """Hidden size of each student's head. Default: a linear head."""

        @property
        def referenced_inputs(self) -> list[tuple[str, str]]:
            return [] if self.teacher is None else [("teacher", self.teacher)]

    options: Options
    min_inputs: ClassVar[int] = 2

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if options.teacher is not None and options.teacher not in self.inputs:
            raise RecipeError(
                "teacher",
                f"{options.teacher!r} is not an input of this objective; {did_you_mean(options.teacher, self.inputs)}",
            )
        self.teacher = options.teacher or self.inputs[0]
        self.students = [name for name in self.inputs if name != self.teacher]
        self.heads = NamedModules({name: EmbeddingHead(width, width, options.hidden_size) for name in self.students})

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        teacher_tokens, terms = step.tokens[self.teacher], []
        for name, head in self.heads.items():
            both = (teacher_tokens.present & step.tokens[name].present).nonzero()[:, 0]
            world, rows = step.world, step.world.total(len(both))
            if rows < 2:
                continue
            with torch.autocast(both.device.type, enabled=False):
                target = standardize(world.gather_rows(teacher_tokens.pooled()[both].detach().float()))
                student = world.gather_rows(head(step.tokens[name].pooled()[both].float()))
                pair = f"{self.teacher}-{name}"
                if self.options.match != "relations":
                    compare = feature_mse if self.options.distance == "squared_error" else feature_cosine
                    loss, baseline = compare(student, target)
                    terms.append(ObjectiveLoss(pair, world.share(loss), baseline, rows))
                if self.options.match != "features" and rows > 2:
                    loss, baseline = relational_distance(student, target)
                    terms.append(ObjectiveLoss(f"{pair} relations", world.share(loss), baseline, rows))
        return terms


def feature_mse(student: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """Mean squared error of `student [n, width]` against standardized `target [n, width]`, and that of the mean."""
    return functional.mse_loss(student, target), 1.0


def feature_cosine(student: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """One minus the mean cosine similarity, and that of the mean direction of the target."""
    loss = 1 - functional.cosine_similarity(student, target, dim=1).mean()
    return loss, 1 - float(l2_normalize(target).mean(0).norm())


def relational_distance(student: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """Huber loss of pairwise distances in units of their mean, and that of equal distances."""
    student_distances, target_distances = _distances(student), _distances(target)
    return functional.smooth_l1_loss(student_distances, target_distances), float(
        functional.smooth_l1_loss(torch.ones_like(target_distances), target_distances)
    )


def _distances(x: Tensor) -> Tensor:
    """Pairwise distances of the rows of `x [n, width]` in units of their mean: `[n (n - 1) / 2]`."""
    first, second = torch.triu_indices(len(x), len(x), 1)
    distances = ((x[first] - x[second]).square().sum(1) + 1e-12).sqrt()
    return distances / distances.mean()
