"""Objectives that bring what belongs together near each other: one space for several inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.errors import RecipeError, nearest
from polymodal.nn.embedding import Head, unit
from polymodal.objectives.base import Objective, ObjectiveOptions, Reads, Step, Term
from polymodal.recipe.options import sized
from polymodal.tokens import InputBatch, Tokens


class AlignmentOptions(ObjectiveOptions):
    """Options of every alignment."""

    anchor: str | None = None
    """Align every other input with this one alone, as ImageBind does (Girdhar et al., 2023): inputs that are never in
    one row together still meet. Silent: every pair of inputs."""
    size: int = sized(64, 128, 256, ge=2)
    """Numbers in an embedding."""
    sizes: list[int] = []
    """Shorter embeddings that are learned too: the first so many numbers, by themselves (Kusupati et al., "Matryoshka
    Representation Learning", 2022)."""
    hidden: int | None = Field(default=None, ge=1)
    """Width of a hidden layer of each input's head; silent: the head is linear."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the numbers before the head that are dropped in training."""
    memory: int = Field(default=0, ge=0)
    """Embeddings of so many earlier rows stay as further candidates that do not belong (Wu et al., "Unsupervised
    Feature Learning via Non-Parametric Instance Discrimination", 2018; Wang et al., "Cross-Batch Memory for Embedding
    Learning", 2020)."""


class Alignment(Objective):
    """Base of every objective with a joint space: each input has a head, and rows tell what belongs together.

        e_m = unit(Head_m(mean of the tokens of m))

    Rows of a batch that share an item (five captions of one image) belong together too: all of them are positives. Only
    rows that have both inputs of a pair take part in it.
    """

    options: AlignmentOptions
    fewest: ClassVar[int] = 2
    contrasts: ClassVar[bool] = True
    bank: Tensor
    bank_rows: Tensor

    def __init__(self, options: AlignmentOptions, *, inputs: Mapping[str, Reads], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if options.anchor is not None and options.anchor not in self.inputs:
            raise RecipeError(
                "anchor", f"{options.anchor!r} is none of its inputs; {nearest(options.anchor, self.inputs)}"
            )
        longer = [size for size in options.sizes if size >= options.size]
        if longer or any(size < 1 for size in options.sizes):
            raise RecipeError("sizes", f"shorter embeddings have between 1 and {options.size - 1} numbers")
        self.sizes = [*sorted(set(options.sizes)), options.size]
        self.heads = nn.ModuleList(Head(width, options.size, options.hidden, options.dropout) for _ in self.inputs)
        if options.memory:
            self.register_buffer("bank", torch.zeros(len(self.inputs), options.memory, options.size))
            self.register_buffer("bank_rows", torch.full((len(self.inputs), options.memory), -1, dtype=torch.int64))
            self._fresh: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of inputs that are aligned with each other."""
        if self.options.anchor is None:
            return list(combinations(self.inputs, 2))
        return [(self.options.anchor, name) for name in self.inputs if name != self.options.anchor]

    def embed(self, name: str, tokens: Tokens) -> Tensor:
        """The embedding of input `name` in each row, `[batch, size]` fp32, of unit length."""
        return unit(self.heads[self.inputs.index(name)](tokens.pooled()).float())

    @property
    @abstractmethod
    def scale(self) -> Tensor:
        """What similarities are multiplied by: one over the temperature."""

    @abstractmethod
    def compare(self, similarity: Tensor, positive: Tensor, counted: Tensor) -> tuple[Tensor, float]:
        """The loss of queries against candidates, and the loss of knowing nothing.

        similarity: `[n, m]` cosines
        positive: `[n, m]` bool, what belongs together; at least one in each row
        counted: `[n, m]` bool, False where a candidate must not be compared with
        """

    def forward(self, step: Step) -> list[Term]:
        embedded = {name: self.embed(name, step.tokens[name]) for name in self.inputs}
        terms = []
        for one, other in self.pairs:
            both = (step.tokens[one].present & step.tokens[other].present).nonzero()[:, 0]
            if len(both) < 2:
                continue
            positive = belonging(step.batch.inputs[one], step.batch.inputs[other], both)
            losses, chances = [], []
            for query, candidate in ((one, other), (other, one)):
                for size in self.sizes:
                    found, chance = self._towards(
                        embedded[query][both, :size], candidate, embedded[candidate][both, :size], positive, step, both
                    )
                    losses.append(found)
                    chances.append(chance)
            loss, expected = torch.stack(losses).mean(), sum(chances) / len(chances)
            terms.append(Term(f"{one}-{other}", loss, expected, float(len(both))))
        if self.options.memory and self.training:
            rows = step.batch.rows
            self._fresh = {
                name: (one[step.tokens[name].present].detach(), rows[step.tokens[name].present])
                for name, one in embedded.items()
            }
        return terms

    def _towards(
        self, queries: Tensor, name: str, candidates: Tensor, positive: Tensor, step: Step, rows: Tensor
    ) -> tuple[Tensor, float]:
        """Compare `queries [n, size]` with the candidates of input `name` in the batch, and in the memory."""
        size = queries.shape[1]
        counted = torch.ones_like(positive)
        if self.options.memory:
            place = self.inputs.index(name)
            bank, bank_rows = self.bank[place], self.bank_rows[place]
            others = (bank_rows != step.batch.rows[rows].unsqueeze(1)) & (bank_rows >= 0)
            candidates = torch.cat([candidates, bank[:, :size]])
            counted = torch.cat([counted, others], 1)
            positive = torch.cat([positive, torch.zeros_like(others)], 1)
        if size < self.options.size:
            queries, candidates = unit(queries), unit(candidates)
        with torch.autocast("cpu", enabled=False):
            return self.compare(queries @ candidates.T, positive, counted)

    def after_step(self, network: Any) -> None:
        if not self.options.memory:
            return
        for place, name in enumerate(self.inputs):
            if name in self._fresh:
                found, rows = self._fresh[name]
                most = self.options.memory
                self.bank[place] = torch.cat([found, self.bank[place]])[:most]
                self.bank_rows[place] = torch.cat([rows, self.bank_rows[place]])[:most]
        self._fresh = {}


def belonging(one: InputBatch, other: InputBatch, rows: Tensor) -> Tensor:
    """Which of some rows of a batch belong together: `[n, n]` bool, those that share an item of either input."""
    first, second = one.index[rows], other.index[rows]
    return (first.unsqueeze(1) == first) | (second.unsqueeze(1) == second)


def alignments(objectives: nn.ModuleList) -> Iterator[Alignment]:
    """The objectives that have a joint space."""
    for objective in objectives:
        if isinstance(objective, Alignment):
            yield objective
