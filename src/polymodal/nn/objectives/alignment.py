"""Base classes of alignment objectives: one joint embedding space for several inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.needs import Needs
from polymodal.core.options import sized_field
from polymodal.core.types import InputBatch, Tokens
from polymodal.distributed.world import SINGLE, World
from polymodal.nn.layers.embedding_head import EmbeddingHead, l2_normalize
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.base import (
    InputInfo,
    NetworkProtocol,
    Objective,
    ObjectiveBatch,
    ObjectiveLoss,
    ObjectiveOptions,
)

_THREE_INPUTS = Needs(
    "three or more inputs, since two are one pair", lambda own, run: len(own.inputs or run.recipe.inputs) > 2
)


class JointSpaceOptions(ObjectiveOptions):
    """Options of every joint embedding space."""

    anchor: Annotated[str | None, _THREE_INPUTS] = None
    """Align every other input only with this input, as ImageBind does (Girdhar et al., 2023), so that inputs that never
    occur in the same row share one space. Default: align every pair of inputs."""
    embedding_dim: int = sized_field(64, 128, 256, ge=2)
    """Embedding dimension."""

    @property
    def referenced_inputs(self) -> list[tuple[str, str]]:
        return [] if self.anchor is None else [("anchor", self.anchor)]


class AlignmentOptions(JointSpaceOptions):
    """Options of alignments with trained projection heads."""

    hidden_size: int | None = Field(default=None, ge=1)
    """Hidden size of each projection head. Default: a linear head."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the last layer of the head."""


class Alignment(Objective):
    """Base class of objectives with a joint embedding space. Each input has a projection head. Inputs of the same row
    are positives.

        z_m = Head_m(mean of the tokens of m) ;  e_m = z_m / |z_m|

    A pair of inputs is trained on the rows that have both.
    """

    options: JointSpaceOptions
    min_inputs: ClassVar[int] = 2
    compares_rows: ClassVar[bool] = True

    def __init__(self, options: JointSpaceOptions, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if options.anchor is not None and options.anchor not in self.inputs:
            raise RecipeError(
                "anchor",
                f"{options.anchor!r} is not an input of this objective; {did_you_mean(options.anchor, self.inputs)}",
            )
        self.embedding_dims = [options.embedding_dim]
        self.heads = NamedModules({name: self.head(width) for name in self.inputs})

    def head(self, width: int) -> nn.Module:
        """Projection head of an input: mean of its tokens `[batch, width]` -> `[batch, embedding_dim]`."""
        options = self.options
        assert isinstance(options, AlignmentOptions)
        return EmbeddingHead(width, options.embedding_dim, options.hidden_size, options.dropout)

    @property
    def input_pairs(self) -> list[tuple[str, str]]:
        """Pairs of inputs that are aligned."""
        if self.options.anchor is None:
            return list(combinations(self.inputs, 2))
        return [(self.options.anchor, name) for name in self.inputs if name != self.options.anchor]

    def project(self, name: str, tokens: Tokens) -> Tensor:
        """Projection of input `name` before normalization, `[batch, embedding_dim]` fp32."""
        projected: Tensor = self.heads[name](tokens.pooled())
        return projected.float()

    def embed(self, name: str, tokens: Tokens) -> Tensor:
        """Embedding of input `name`, `[batch, embedding_dim]` fp32, of unit length."""
        return l2_normalize(self.project(name, tokens))

    @property
    @abstractmethod
    def logit_scale(self) -> Tensor:
        """Factor on cosine similarities in a softmax over candidates: 1 / temperature."""

    @abstractmethod
    def pair_loss(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        """Loss of a pair of inputs (with several processes, the part of this one), and the baseline loss.

        projected: projections of both inputs in `rows`, `[n, embedding_dim]` each
        rows: indices in the batch of the n rows that have both inputs
        """

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        projected = {name: self.project(name, step.tokens[name]) for name in self.inputs}
        terms = []
        for first, second in self.input_pairs:
            both = (step.tokens[first].present & step.tokens[second].present).nonzero()[:, 0]
            count = step.world.total(len(both))
            if count < 2:
                continue
            with torch.autocast(both.device.type, enabled=False):
                loss, baseline = self.pair_loss(
                    (first, second), (projected[first][both], projected[second][both]), step, both
                )
            terms.append(ObjectiveLoss(f"{first}-{second}", loss, baseline, count))
        if self.training:
            self.record_batch(projected, step)
        return terms

    def record_batch(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        """Record statistics of a training batch for `after_step`. Default: nothing."""


class ContrastiveAlignmentOptions(AlignmentOptions):
    """Options of contrastive alignments."""

    matryoshka_dims: list[int] = []
    """Dimensions of shorter embeddings that are trained too: prefixes of the embedding (Kusupati et al., "Matryoshka
    Representation Learning", 2022)."""
    memory_bank_size: int = Field(default=0, ge=0)
    """Size of the memory bank: this many embeddings of earlier rows serve as additional negatives in training (Wu et
    al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018; Wang et al., "Cross-Batch
    Memory for Embedding Learning", 2020). Only the row itself, and rows that share an item with it in the batch, are
    excluded. If many rows share an item, the bank therefore holds false negatives. Its embeddings come from earlier
    weights: use it if the weights change slowly (a low learning rate, a frozen encoder)."""


class ContrastiveAlignment(Alignment):
    """Base class of contrastive alignments: each row is compared with candidates by cosine similarity.

    All rows of a batch that share an item (such as five captions of one image) are positives of each other.
    """

    options: ContrastiveAlignmentOptions
    memory_bank: Tensor
    memory_rows: Tensor

    def __init__(self, options: ContrastiveAlignmentOptions, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if any(not 1 <= size < options.embedding_dim for size in options.matryoshka_dims):
            raise RecipeError(
                "matryoshka_dims",
                f"the dimensions of shorter embeddings must be between 1 and {options.embedding_dim - 1}",
            )
        self.embedding_dims = [*sorted(set(options.matryoshka_dims)), options.embedding_dim]
        if options.memory_bank_size:
            self.register_buffer(
                "memory_bank", torch.zeros(len(self.inputs), options.memory_bank_size, options.embedding_dim)
            )
            self.register_buffer(
                "memory_rows", torch.full((len(self.inputs), options.memory_bank_size), -1, dtype=torch.int64)
            )
            self._pending: dict[str, tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def contrastive_loss(
        self, similarity: Tensor, positive: Tensor, counted: Tensor, world: World
    ) -> tuple[Tensor, float]:
        """Loss of queries against candidates, and the baseline loss.

        similarity: `[n, m]` cosine similarities
        positive: `[n, m]` bool; at least one positive in each row
        counted: `[n, m]` bool, False for candidates to ignore
        world: the processes, each with its own queries and the candidates of all
        """

    def pair_loss(
        self, pair: tuple[str, str], projected: tuple[Tensor, Tensor], step: ObjectiveBatch, rows: Tensor
    ) -> tuple[Tensor, float]:
        world = step.world
        positive = positive_pairs(step.batch.inputs[pair[0]], step.batch.inputs[pair[1]], rows, world)
        numbers = world.gather_rows(step.batch.rows[rows])
        first, second = (world.gather_rows(each) for each in projected)
        results = [
            self.contrastive_loss(
                *self._candidates(query[:, :size], name, candidate[:, :size], positive, numbers), world
            )
            for query, name, candidate in ((projected[0], pair[1], second), (projected[1], pair[0], first))
            for size in self.embedding_dims
        ]
        losses, baselines = zip(*results, strict=True)
        return torch.stack(losses).mean(), sum(baselines) / len(baselines)

    def _candidates(
        self, queries: Tensor, name: str, candidates: Tensor, positive: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Arguments of `contrastive_loss`: `queries [n, size]` against the candidates of input `name` in the batch (of
        all processes) and, in training, in the memory bank. `rows` are the row numbers of the candidates."""
        counted = torch.ones_like(positive)
        candidates = l2_normalize(candidates)
        if self.options.memory_bank_size and self.training:
            index = self.inputs.index(name)
            bank, bank_rows = self.memory_bank[index][:, : queries.shape[1]], self.memory_rows[index]
            related = positive.float() @ (rows.unsqueeze(1) == bank_rows).float() > 0
            candidates = torch.cat([candidates, l2_normalize(bank)])
            counted = torch.cat([counted, ~related & (bank_rows >= 0)], 1)
            positive = torch.cat([positive, torch.zeros_like(related)], 1)
        return l2_normalize(queries) @ candidates.T, positive, counted

    def record_batch(self, projected: dict[str, Tensor], step: ObjectiveBatch) -> None:
        if self.options.memory_bank_size:
            present = {name: step.tokens[name].present for name in projected}
            self._pending = {
                name: (
                    step.world.gather_rows(l2_normalize(projection[present[name]]).detach()),
                    step.world.gather_rows(step.batch.rows[present[name]]),
                )
                for name, projection in projected.items()
            }

    def after_step(self, network: NetworkProtocol) -> None:
        if not self.options.memory_bank_size:
            return
        for name, (embeddings, rows) in self._pending.items():
            index, most = self.inputs.index(name), self.options.memory_bank_size
            self.memory_bank[index] = torch.cat([embeddings, self.memory_bank[index]])[:most]
            self.memory_rows[index] = torch.cat([rows, self.memory_rows[index]])[:most]
        self._pending = {}


def positive_pairs(one: InputBatch, other: InputBatch, rows: Tensor, world: World = SINGLE) -> Tensor:
    """Positive pairs of some rows of a batch: `[n, n]` bool, rows that share an item of either input. With several
    processes `[n, m]`: the rows of this one with those of all."""
    first, second = one.item_numbers[rows], other.item_numbers[rows]
    return (first.unsqueeze(1) == world.gather_rows(first)) | (second.unsqueeze(1) == world.gather_rows(second))


def alignment_objectives(objectives: Iterable[Objective]) -> Iterator[Alignment]:
    """The objectives that are alignments."""
    for objective in objectives:
        if isinstance(objective, Alignment):
            yield objective
