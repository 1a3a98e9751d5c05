"""Objectives that bring what belongs together near each other: one space for several inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.options import sized_field
from polymodal.core.types import InputBatch, Tokens
from polymodal.nn.layers.embedding_head import Head, unit
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.base import NetworkProtocol, Objective, ObjectiveOptions, InputInfo, ObjectiveBatch, ObjectiveLoss


class JointSpaceOptions(ObjectiveOptions):
    """Options of every joint space."""

    anchor: str | None = None
    """Align every other input with this one alone, as ImageBind does (Girdhar et al., 2023): inputs that are never in
    one row together still meet. Silent: every pair of inputs."""
    size: int = sized_field(64, 128, 256, ge=2)
    """Numbers in an embedding."""

    @property
    def named(self) -> list[tuple[str, str]]:
        return [] if self.anchor is None else [("anchor", self.anchor)]


class AlignmentOptions(JointSpaceOptions):
    """Options of alignment_objectives whose heads learn."""

    hidden_size: int | None = Field(default=None, ge=1)
    """Width of a hidden layer of each input's head; silent: the head is linear."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the numbers before the last layer of the head that are dropped in training."""


class Alignment(Objective):
    """Base of every objective with a joint space: each input has a head, and rows tell what belongs together.

        z_m = Head_m(mean of the tokens of m) ;  e_m = unit(z_m)

    Only rows that have both inputs of a pair take part in it.
    """

    options: JointSpaceOptions
    min_inputs: ClassVar[int] = 2
    compares_rows: ClassVar[bool] = True

    def __init__(self, options: JointSpaceOptions, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if options.anchor is not None and options.anchor not in self.inputs:
            raise RecipeError(
                "anchor", f"{options.anchor!r} is none of its inputs; {did_you_mean(options.anchor, self.inputs)}"
            )
        self.sizes = [options.size]
        self.heads = NamedModules({name: self.head(width) for name in self.inputs})

    def head(self, width: int) -> nn.Module:
        """The head of an input: what its tokens say on average, `[batch, width]`, to `[batch, size]`."""
        options = self.options
        assert isinstance(options, AlignmentOptions)
        return Head(width, options.size, options.hidden_size, options.dropout)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of inputs that are aligned with each other."""
        if self.options.anchor is None:
            return list(combinations(self.inputs, 2))
        return [(self.options.anchor, name) for name in self.inputs if name != self.options.anchor]

    def project(self, name: str, tokens: Tokens) -> Tensor:
        """What the head of input `name` makes of each row, `[batch, size]` fp32."""
        found: Tensor = self.heads[name](tokens.pooled())
        return found.float()

    def embed(self, name: str, tokens: Tokens) -> Tensor:
        """The embedding of input `name` in each row, `[batch, size]` fp32, of unit length."""
        return unit(self.project(name, tokens))

    @property
    @abstractmethod
    def scale(self) -> Tensor:
        """What similarities are multiplied by where a choice is made by them: one over the temperature."""

    @abstractmethod
    def align(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        """The loss of a pair of inputs, and the loss of knowing nothing.

        projected: what the heads made of either input in `rows`, `[n, size]` each
        rows: the places in the batch of the n rows that have both
        """

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        projected = {name: self.project(name, step.tokens[name]) for name in self.inputs}
        terms = []
        for one, other in self.pairs:
            both = (step.tokens[one].present & step.tokens[other].present).nonzero()[:, 0]
            if len(both) < 2:
                continue
            with torch.autocast(both.device.type, enabled=False):
                loss, chance = self.align((one, other), (projected[one][both], projected[other][both]), step, both)
            terms.append(ObjectiveLoss(f"{one}-{other}", loss, chance, float(len(both))))
        if self.training:
            self.keep(projected, step)
        return terms

    def keep(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        """Remember something of a training batch until `after_step`; nothing here."""


class ContrastiveAlignmentOptions(AlignmentOptions):
    """Options of alignment_objectives that compare each row with all others."""

    sizes: list[int] = []
    """Shorter embeddings that are learned too: the first so many numbers, by themselves (Kusupati et al., "Matryoshka
    Representation Learning", 2022)."""
    memory: int = Field(default=0, ge=0)
    """In training, embeddings of so many earlier rows stay as further candidates that do not belong (Wu et al.,
    "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018; Wang et al., "Cross-Batch Memory
    for Embedding Learning", 2020). Only the row itself, and rows that share an item with it in the batch, are known to
    belong: where many rows share an item, a memory holds some that are wrongly told apart. They are as the
    weights were then: of use where these change slowly (a low learning rate, a frozen encoder)."""


class ContrastiveAlignment(Alignment):
    """Base of the alignment_objectives that look for what belongs to a row among candidates, by cosine.

    Rows of a batch that share an item (five captions of one image) belong together too: all of them are positives.
    """

    options: ContrastiveAlignmentOptions
    bank: Tensor
    bank_rows: Tensor

    def __init__(self, options: ContrastiveAlignmentOptions, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if any(not 1 <= size < options.size for size in options.sizes):
            raise RecipeError("sizes", f"shorter embeddings have between 1 and {options.size - 1} numbers")
        self.sizes = [*sorted(set(options.sizes)), options.size]
        if options.memory:
            self.register_buffer("bank", torch.zeros(len(self.inputs), options.memory, options.size))
            self.register_buffer("bank_rows", torch.full((len(self.inputs), options.memory), -1, dtype=torch.int64))
            self._fresh: dict[str, tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def compare(self, similarity: Tensor, positive: Tensor, counted: Tensor) -> tuple[Tensor, float]:
        """The loss of queries against candidates, and the loss of knowing nothing.

        similarity: `[n, m]` cosines
        positive: `[n, m]` bool, what belongs together; at least one in each row
        counted: `[n, m]` bool, False where a candidate must not be compared with
        """

    def align(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        positive = positive_pairs(step.batch.inputs[pair[0]], step.batch.inputs[pair[1]], rows)
        found = [
            self.compare(*self._candidates(query[:, :size], name, candidate[:, :size], positive, step.batch.rows[rows]))
            for query, name, candidate in ((projected[0], pair[1], projected[1]), (projected[1], pair[0], projected[0]))
            for size in self.sizes
        ]
        losses, chances = zip(*found, strict=True)
        return torch.stack(losses).mean(), sum(chances) / len(chances)

    def _candidates(
        self, queries: Tensor, name: str, candidates: Tensor, positive: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `compare` reads: `queries [n, size]` against the candidates of input `name` in the batch, and in
        training those in the memory."""
        counted = torch.ones_like(positive)
        candidates = unit(candidates)
        if self.options.memory and self.training:
            place = self.inputs.index(name)
            bank, bank_rows = self.bank[place][:, : queries.shape[1]], self.bank_rows[place]
            related = positive.float() @ (rows.unsqueeze(1) == bank_rows).float() > 0
            candidates = torch.cat([candidates, unit(bank)])
            counted = torch.cat([counted, ~related & (bank_rows >= 0)], 1)
            positive = torch.cat([positive, torch.zeros_like(related)], 1)
        return unit(queries) @ candidates.T, positive, counted

    def keep(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        if self.options.memory:
            there = {name: step.tokens[name].present for name in projected}
            self._fresh = {
                name: (unit(one[there[name]]).detach(), step.batch.rows[there[name]]) for name, one in projected.items()
            }

    def after_step(self, network: NetworkProtocol) -> None:
        if not self.options.memory:
            return
        for name, (found, rows) in self._fresh.items():
            place, most = self.inputs.index(name), self.options.memory
            self.bank[place] = torch.cat([found, self.bank[place]])[:most]
            self.bank_rows[place] = torch.cat([rows, self.bank_rows[place]])[:most]
        self._fresh = {}


def positive_pairs(one: InputBatch, other: InputBatch, rows: Tensor) -> Tensor:
    """Which of some rows of a batch belong together: `[n, n]` bool, those that share an item of either input."""
    first, second = one.index[rows], other.index[rows]
    return (first.unsqueeze(1) == first) | (second.unsqueeze(1) == second)


def alignment_objectives(objectives: Iterable[Objective]) -> Iterator[Alignment]:
    """The objectives that have a joint space."""
    for objective in objectives:
        if isinstance(objective, Alignment):
            yield objective
