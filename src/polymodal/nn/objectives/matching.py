"""Matching: does what stands in a row belong together?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.registry import register
from polymodal.core.types import InputBatch, Tokens
from polymodal.nn.layers.embedding_head import unit
from polymodal.nn.objectives.alignment import Alignment, alignment_objectives
from polymodal.nn.objectives.base import Objective, ObjectiveOptions, InputInfo, ObjectiveBatch, ObjectiveLoss
from polymodal.nn.towers import EncodedInputs

#: How hard the exchanged rows are at the start, in comparison to the end.
EASY = 0.1


@register
class Matching(Objective):
    """The fusion tells rows as they are from rows in which one input was exchanged for that of another row, which is as
    like the true one as can be found (Li et al., "Align before Fuse: Vision and Language Representation Learning with
    Momentum Distillation", 2021, image-text matching).

        L = 1/2 (mean_i -log p(row i) + mean_i -log(1 - p(row i with the input of row j))) ,
        j ~ softmax_j(h cosine_ij / temperature)

    h grows from 0.1 to 1 in the course of training, since nothing is learned from rows that are too alike at first; it
    is 0.1 on rows that are not trained on, where epochs are compared.
    p is the sigmoid of a linear map of the fused vector. The cosine is that between the other inputs of row i and the
    input of row j in the space of an `Alignment` of the same network that has them, and otherwise that between the
    exchanged input's mean tokens in both rows. A row that shares the exchanged item, or one of the other inputs' items,
    with row i is none to exchange with. Inputs that the objective does not learn from are hidden from the fusion.
    Knowing nothing costs log 2.
    """

    class Options(ObjectiveOptions):
        name: Literal["matching"] = "matching"
        exchange: list[str] = []
        """The inputs that are exchanged, each by itself; silent: all of its inputs."""
        temperature: float = Field(default=0.2, gt=0, le=10)
        """Cosines are divided by it to draw the rows to exchange with: small numbers draw the most similar, large ones
        any."""

    options: Options
    min_inputs: ClassVar[int] = 2
    uses_fusion: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = True

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        for name in options.exchange:
            if name not in self.inputs:
                raise RecipeError("exchange", f"{name!r} is none of its inputs; {did_you_mean(name, self.inputs)}")
        self.exchanged = [name for name in self.inputs if name in options.exchange] or self.inputs
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        tokens = {name: step.tokens[name] for name in self.inputs}
        count = torch.stack([one.present for one in tokens.values()]).sum(0)
        true: Tensor | None = None
        terms: list[ObjectiveLoss] = []
        for name in self.exchanged:
            others = [one for one in self.inputs if one != name]
            whole = tokens[name].present & (count > 1)
            allowed = negative_mask(step.batch.inputs, name, others) & whole.unsqueeze(1) & tokens[name].present
            rows = allowed.any(1).nonzero()[:, 0]
            if not len(rows):
                continue
            true = self._logits(step, {}) if true is None else true
            hardness = (EASY + (1 - EASY) * step.progress) / self.options.temperature
            similarity = hardness * self._similarity(step, name, others)[rows]
            chosen = similarity.masked_fill(~allowed[rows], float("-inf")).softmax(1).multinomial(1)[:, 0]
            place = torch.arange(len(whole), device=whole.device)
            place[rows] = chosen
            false = self._logits(step, {name: _taken(tokens[name], place)})
            loss = (functional.softplus(-true[rows]).mean() + functional.softplus(false[rows]).mean()) / 2
            terms.append(ObjectiveLoss(name, loss, math.log(2), float(len(rows))))
        return terms

    def _logits(self, step: ObjectiveBatch, exchanged: dict[str, Tokens]) -> Tensor:
        """How sure the fusion is that each row of the batch belongs together, `[batch]`."""
        network, rows = step.network, len(step.batch)
        hidden = {
            name: torch.ones_like(one.present) for name, one in step.batch.inputs.items() if name not in self.inputs
        }
        views = network.fuse(EncodedInputs({**step.tokens, **exchanged}, {}), rows, hidden)
        joint = [view for view in views if view.name not in step.batch.inputs]
        if not joint:
            raise RecipeError(
                "fusion", "matching asks the fusion whether inputs belong together, and this one keeps them apart"
            )
        logits: Tensor = torch.stack([self.head(view.pooled).float() for view in joint]).mean(0)[:, 0]
        return logits

    @torch.no_grad()
    def _similarity(self, step: ObjectiveBatch, name: str, others: list[str]) -> Tensor:
        """How well the input `name` of each row would suit each row, `[batch, batch]` cosines."""
        space = next(
            (one for one in alignment_objectives(step.network.objectives.values()) if {name, *others} <= set(one.inputs)), None
        )
        own = step.tokens[name]
        if space is None:
            vectors = unit(own.pooled())
            return vectors @ vectors.T
        return _row(space, step, others) @ space.embed(name, own).T


def _row(space: Alignment, step: ObjectiveBatch, names: list[str]) -> Tensor:
    """The mean embedding of the inputs `names` that each row has, `[batch, size]` of unit length."""
    vectors = [space.embed(name, step.tokens[name]) * step.tokens[name].present.unsqueeze(1) for name in names]
    return unit(torch.stack(vectors).sum(0))


def negative_mask(inputs: Mapping[str, InputBatch], name: str, others: list[str]) -> Tensor:
    """Whether the input `name` of row j does not belong to row i: `[batch, batch]` bool, False where the two rows share
    the item of that input or of one of the `others`."""
    count, device = len(inputs[name].present), inputs[name].present.device
    shared = torch.zeros(count, count, dtype=torch.bool, device=device)
    for one in (name, *others):
        index, present = inputs[one].index, inputs[one].present
        shared |= (index.unsqueeze(1) == index) & present & present.unsqueeze(1)
    return ~(shared | torch.eye(count, dtype=torch.bool, device=device))


def _taken(tokens: Tokens, place: Tensor) -> Tokens:
    """The tokens of the rows `place [batch]`."""
    times = None if tokens.times is None else tokens.times[place]
    return Tokens(tokens.features[place], tokens.mask[place], tokens.present[place], times)
