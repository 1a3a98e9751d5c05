"""Matching: binary classification of whether the inputs of a row belong together."""

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
from polymodal.distributed.world import SINGLE, World
from polymodal.nn.layers.embedding_head import l2_normalize
from polymodal.nn.objectives.alignment import Alignment, alignment_objectives
from polymodal.nn.objectives.base import InputInfo, Objective, ObjectiveBatch, ObjectiveLoss, ObjectiveOptions
from polymodal.nn.towers import EncodedInputs

#: Hardness of the negatives at the start of training, relative to the end.
INITIAL_HARDNESS = 0.1


@register
class Matching(Objective):
    """Matching with hard negatives: the fusion classifies original rows against rows in which one input was exchanged
    for a similar one of another row (Li et al., "Align before Fuse: Vision and Language Representation Learning with
    Momentum Distillation", 2021, image-text matching).

        L = 1/2 (mean_i -log p(row i) + mean_i -log(1 - p(row i with the input of row j))) ,
        j ~ softmax_j(h cosine_ij / temperature)

    The hardness h grows from 0.1 to 1 during training, since very similar rows are too hard at first. It is 0.1 in
    validation, so that epochs are comparable. p is the sigmoid of a linear layer on the fused vector. The cosine is
    that between the other inputs of row i and the input of row j in the embedding space of an `Alignment` of the same
    network that has these inputs; without one, that between the pooled tokens of the exchanged input in both rows. Rows
    that share the exchanged item, or an item of the other inputs, with row i are not negatives. Inputs that are not
    part of the objective are masked in the fusion. The baseline is log 2.
    """

    class Options(ObjectiveOptions):
        name: Literal["matching"] = "matching"
        exchanged_inputs: list[str] = []
        """Inputs that are exchanged, one at a time. Default: all inputs of the objective."""
        temperature: float = Field(default=0.2, gt=0, le=10)
        """Sampling temperature of the negatives. Low values sample the most similar rows, high values random rows."""

    options: Options
    min_inputs: ClassVar[int] = 2
    uses_fusion: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = True

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        for name in options.exchanged_inputs:
            if name not in self.inputs:
                raise RecipeError(
                    "exchanged_inputs", f"{name!r} is not an input of this objective; {did_you_mean(name, self.inputs)}"
                )
        self.exchanged = [name for name in self.inputs if name in options.exchanged_inputs] or self.inputs
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        world, tokens = step.world, {name: step.tokens[name] for name in self.inputs}
        count = torch.stack([x.present for x in tokens.values()]).sum(0)
        positive_logits: Tensor | None = None
        terms: list[ObjectiveLoss] = []
        for name in self.exchanged:
            others = [other for other in self.inputs if other != name]
            eligible = tokens[name].present & (count > 1)
            candidates = world.gather_rows(tokens[name].present)
            negatives = negative_mask(step.batch.inputs, name, others, world) & eligible.unsqueeze(1) & candidates
            rows = negatives.any(1).nonzero()[:, 0]
            total = world.total(len(rows))
            if not total:
                continue
            positive_logits = self._logits(step, {}) if positive_logits is None else positive_logits
            hardness = (INITIAL_HARDNESS + (1 - INITIAL_HARDNESS) * step.progress) / self.options.temperature
            similarity = hardness * self._similarity(step, name, others)[rows]
            sampled = similarity.masked_fill(~negatives[rows], float("-inf")).softmax(1).multinomial(1)[:, 0]
            index = torch.arange(len(eligible), device=eligible.device) + world.first_row(len(eligible))
            index[rows] = sampled
            negative_logits = self._logits(step, {name: _take_rows(gather_tokens(tokens[name], world), index)})
            matched, exchanged = -positive_logits[rows], negative_logits[rows]
            loss = (world.mean(functional.softplus(matched)) + world.mean(functional.softplus(exchanged))) / 2
            terms.append(ObjectiveLoss(name, loss, math.log(2), total))
        return terms

    def _logits(self, step: ObjectiveBatch, exchanged: dict[str, Tokens]) -> Tensor:
        """Logit of each row that its inputs belong together, `[batch]`."""
        network, rows = step.network, len(step.batch)
        hidden = {
            name: torch.ones_like(one.present) for name, one in step.batch.inputs.items() if name not in self.inputs
        }
        branches = network.fuse(EncodedInputs({**step.tokens, **exchanged}, {}), rows, hidden)
        joint = [branch for branch in branches if branch.name not in step.batch.inputs]
        if not joint:
            raise RecipeError(
                "fusion",
                "matching needs a fusion with a joint representation; this fusion does not combine its inputs",
            )
        logits: Tensor = torch.stack([self.head(branch.pooled).float() for branch in joint]).mean(0)[:, 0]
        return logits

    @torch.no_grad()
    def _similarity(self, step: ObjectiveBatch, name: str, others: list[str]) -> Tensor:
        """Cosine similarity of the input `name` of each row (columns) to each row, `[batch, batch]`. With several
        processes, the columns are the rows of all."""
        space = next(
            (
                one
                for one in alignment_objectives(step.network.objectives.values())
                if {name, *others} <= set(one.inputs)
            ),
            None,
        )
        own = step.tokens[name]
        if space is None:
            vectors = l2_normalize(own.pooled())
            return vectors @ step.world.gather_rows(vectors).T
        return _mean_embedding(space, step, others) @ step.world.gather_rows(space.embed(name, own)).T


def _mean_embedding(space: Alignment, step: ObjectiveBatch, names: list[str]) -> Tensor:
    """Mean embedding of the inputs `names` of each row, `[batch, size]` of unit length."""
    vectors = [space.embed(name, step.tokens[name]) * step.tokens[name].present.unsqueeze(1) for name in names]
    return l2_normalize(torch.stack(vectors).sum(0))


def negative_mask(inputs: Mapping[str, InputBatch], name: str, others: list[str], world: World = SINGLE) -> Tensor:
    """Which rows j can provide a negative for row i: `[batch, batch]` bool. False if the two rows share the item of the
    input `name` or of one of the `others`. With several processes, the columns are the rows of all."""
    count, device = len(inputs[name].present), inputs[name].present.device
    row = torch.arange(count, device=device) + world.first_row(count)
    shared = row.unsqueeze(1) == world.gather_rows(row)
    for one in (name, *others):
        items, present = inputs[one].item_numbers, inputs[one].present
        equal = items.unsqueeze(1) == world.gather_rows(items)
        shared |= equal & world.gather_rows(present) & present.unsqueeze(1)
    return ~shared


def gather_tokens(tokens: Tokens, world: World) -> Tokens:
    """The tokens of the rows of all processes, padded to the longest; with several processes without `times`."""
    if world.size == 1:
        return tokens
    padding = int(max(world.gather(tokens.features.shape[1]))) - tokens.features.shape[1]
    features = functional.pad(tokens.features, (0, 0, 0, padding))
    mask = functional.pad(tokens.mask, (0, padding))
    return Tokens(world.gather_rows(features), world.gather_rows(mask), world.gather_rows(tokens.present))


def _take_rows(tokens: Tokens, index: Tensor) -> Tokens:
    """Tokens of the rows `index [batch]`."""
    times = None if tokens.times is None else tokens.times[index]
    return Tokens(tokens.features[index], tokens.mask[index], tokens.present[index], times)
