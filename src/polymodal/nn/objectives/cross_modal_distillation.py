"""Cross-modal transfer: a strong input teaches weak ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.registry import register
from polymodal.nn.layers.embedding_head import Head, unit
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.base import Objective, ObjectiveOptions, InputInfo, ObjectiveBatch, ObjectiveLoss
from polymodal.nn.objectives.barlow_twins import standardize


@register
class CrossModalDistillation(Objective):
    """Each other input learns to say of a row what the teacher says of it (Gupta, Hoffman & Malik, "Cross Modal
    Distillation for Supervision Transfer", 2016), or how rows differ (Park, Kim, Lu & Cho, "Relational Knowledge
    Distillation", 2019, distance-wise).

        s = Head_m(mean of the tokens of m) ,  t = the mean of the teacher's tokens, without gradient, each of its width
            numbers standardize over the batch
        squares:    L = mean_i |s_i - t_i|^2 / width
        cosine:     L = 1 - mean_i cos(s_i, t_i)
        relations:  L = mean_{i < j} huber( |s_i - s_j| / mean |s - s'| - |t_i - t_j| / mean |t - t'| )

    The teacher is best an input with a frozen pretrained encoder, or one that another objective or an output teaches:
    this loss alone leaves it as it is (and the monitor says that it gets no gradient). Knowing nothing costs what one
    answer for all rows does: the mean (squares: 1), the mean direction (cosine: 1 - |mean of unit(t)|), or equal
    distances between all rows (relations).
    """

    class Options(ObjectiveOptions):
        name: Literal["transfer"] = "transfer"
        teacher: str | None = None
        """The input that teaches; silent: the first. All other inputs learn from it."""
        match: Literal["features", "relations", "both"] = "features"
        """What is learned: what the teacher says of each row, how rows differ, or both."""
        distance: Literal["squares", "cosine"] = "squares"
        """How features are compared."""
        hidden: int | None = Field(default=None, ge=1)
        """Width of a hidden layer of each student's head; silent: the head is linear."""

        @property
        def named(self) -> list[tuple[str, str]]:
            return [] if self.teacher is None else [("teacher", self.teacher)]

    options: Options
    min_inputs: ClassVar[int] = 2

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if options.teacher is not None and options.teacher not in self.inputs:
            raise RecipeError(
                "teacher", f"{options.teacher!r} is none of its inputs; {did_you_mean(options.teacher, self.inputs)}"
            )
        self.teacher = options.teacher or self.inputs[0]
        self.students = [name for name in self.inputs if name != self.teacher]
        self.heads = NamedModules({name: Head(width, width, options.hidden) for name in self.students})

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        taught, terms = step.tokens[self.teacher], []
        for name, head in self.heads.items():
            both = (taught.present & step.tokens[name].present).nonzero()[:, 0]
            if len(both) < 2:
                continue
            with torch.autocast(both.device.type, enabled=False):
                target = standardize(taught.pooled()[both].detach().float())
                found = head(step.tokens[name].pooled()[both].float())
                rows, pair = float(len(both)), f"{self.teacher}-{name}"
                if self.options.match != "relations":
                    compare = squares if self.options.distance == "squares" else cosine
                    terms.append(ObjectiveLoss(pair, *compare(found, target), rows))
                if self.options.match != "features" and len(both) > 2:
                    terms.append(ObjectiveLoss(f"{pair} relations", *relations(found, target), rows))
        return terms


def squares(found: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """The mean squared distance of each number of `found [n, width]` from standardize `target [n, width]`, and that of
    the mean."""
    return functional.mse_loss(found, target), 1.0


def cosine(found: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """One minus the mean cosine, and that of the target's mean direction."""
    loss = 1 - functional.cosine_similarity(found, target, dim=1).mean()
    return loss, 1 - float(unit(target).mean(0).norm())


def relations(found: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """How much the distances between rows differ, each in units of their mean, and what equal distances cost."""
    own, wanted = _distances(found), _distances(target)
    return functional.smooth_l1_loss(own, wanted), float(functional.smooth_l1_loss(torch.ones_like(wanted), wanted))


def _distances(x: Tensor) -> Tensor:
    """The distance of every two rows of `x [n, width]`, in units of their mean: `[n (n - 1) / 2]`."""
    one, other = torch.triu_indices(len(x), len(x), 1)
    found = ((x[one] - x[other]).square().sum(1) + 1e-12).sqrt()
    return found / found.mean()
