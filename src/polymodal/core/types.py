"""The four values that travel through a model: Batch -> Tokens -> View -> Outputs; and masks from lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

# What one decoded number means. It decides how decisions combine: mutually exclusive classes (softmax), independent
# yes/no labels (sigmoid), real numbers, or the tokens of a text, each decided after the ones before it.
Space = Literal["categorical", "binary", "real", "text"]


class TimeGrid(NamedTuple):
    """A timeline in equal cells: cell i spans seconds `[i, i + 1) * seconds / frames`."""

    frames: int
    seconds: float


class TextShape(NamedTuple):
    """The tokens of a text that a decoder writes.

    vocabulary: tokens are numbers from 0 to vocabulary - 1
    begin, end: the tokens before and after a text
    prompt, answer: most tokens of a prompt, and of an answer with its end
    checkpoint: the card of the checkpoint whose tokens they are, JSON-ready; None for tokens learned here
    """

    vocabulary: int
    begin: int
    end: int
    prompt: int
    answer: int
    checkpoint: dict[str, Any] | None = None


class OutputShape(NamedTuple):
    """What a task asks of a decoder: `values` numbers in a row, read in `space`.

    With a `grid`, the values are decided for each cell of a timeline, `values = grid.frames * labels`, cell by cell.
    With a `text`, a decoder that writes decides one of `values` tokens after the other.
    """

    values: int
    space: Space
    grid: TimeGrid | None = None
    text: TextShape | None = None


@dataclass(frozen=True)
class InputBatch:
    """One input of a batch. Rows that share an item hold it once: `data` has the distinct items.

    data: prepared tensors by name, each `[items, ...]`
    index: `[batch]` int64, the item of each row (0 for a missing one)
    present: `[batch]` bool, False where the row lacks this input
    """

    data: dict[str, Tensor]
    index: Tensor
    present: Tensor

    def to(self, device: str) -> InputBatch:
        """The same on a device."""
        data = {name: tensor.to(device) for name, tensor in self.data.items()}
        return InputBatch(data, self.index.to(device), self.present.to(device))


@dataclass(frozen=True)
class TargetBatch:
    """One output of a batch: `value [batch, ...]` as its task collated it, `present [batch]` bool (False: a gap)."""

    value: Tensor
    present: Tensor

    def to(self, device: str) -> TargetBatch:
        """The same on a device."""
        return TargetBatch(self.value.to(device), self.present.to(device))


@dataclass(frozen=True)
class Batch:
    """Prepared rows. `rows [batch]` are row numbers of the table, `weight [batch]` the sample weights.

    prompts: by output, what a written answer follows on: `[batch, length]` int64, padded with -1; `[batch, 0]` where
        the output has no prompt
    """

    inputs: dict[str, InputBatch]
    targets: dict[str, TargetBatch]
    rows: Tensor
    weight: Tensor | None = None
    prompts: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: str) -> Batch:
        """The same on a device, where the network that reads it lies."""
        return Batch(
            {name: one.to(device) for name, one in self.inputs.items()},
            {name: one.to(device) for name, one in self.targets.items()},
            self.rows.to(device),
            None if self.weight is None else self.weight.to(device),
            {name: prompt.to(device) for name, prompt in self.prompts.items()},
        )


@dataclass(frozen=True)
class Tokens:
    """What every encoder returns.

    features: `[batch, length, width]`
    mask: `[batch, length]` bool, True = real. At least one position of every row is True: a missing input holds its
        learned "missing" token there.
    present: `[batch]` bool, False where the input is missing
    times: `[batch, length]` fp32, the middle of each token in seconds from the start of its item; None for an input
        that has no timeline
    """

    features: Tensor
    mask: Tensor
    present: Tensor
    times: Tensor | None = None

    def pooled(self) -> Tensor:
        """The mean of the real tokens, `[batch, width]`."""
        if self.features.shape[1] == 1:
            return self.features[:, 0]
        weight = self.mask.to(self.features.dtype).unsqueeze(-1)
        return (self.features * weight).sum(1) / weight.sum(1).clamp_min(1)

    def with_features(self, features: Tensor) -> Tokens:
        """The same mask and presence over other features of the same length."""
        return replace(self, features=features)


@dataclass(frozen=True)
class FusionOutput:
    """What a fusion hands to a decoder.

    name: "joint", or the input that a decision-level view stands for
    tokens: the fused tokens
    pooled: `[batch, width]`, their summary
    weight: `[batch]`, how much this view counts in the row's decision; 0 where the view's input is missing
    vector: whether `tokens` are one vector for each row, in which the inputs' own tokens can no longer be told apart
    sources: the tokens, before fusion, of the inputs behind the view; the network adds them for decoders that decide
        moment by moment or word by word
    encoded: what the encoders of those inputs gave, before it was brought to the common width and normalised; the
        network adds them for decoders that ask for it (`Decoder.reads_encoded`)
    asked: with task tokens, the view as each output asked for it, by name; this view is then their mean
    penalties: of the run of the fusion that such a view came from, as `Fusion.penalties` has them
    """

    name: str
    tokens: Tokens
    pooled: Tensor
    weight: Tensor
    is_vector: bool = False
    input_tokens: Mapping[str, Tokens] = field(default_factory=dict)
    encoder_outputs: Mapping[str, Tokens] = field(default_factory=dict)
    per_task: Mapping[str, FusionOutput] = field(default_factory=dict)
    penalties: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def timed_inputs(self) -> tuple[Tokens, ...]:
        """The sources that have a timeline."""
        return tuple(one for one in self.input_tokens.values() if one.times is not None)


@dataclass(frozen=True)
class LossTerm:
    """A place where the task's loss is taken: `values [batch, k]`, rows counted by `weight [batch]`, times `scale`."""

    name: str
    values: Tensor
    weight: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class TaskOutput:
    """What the model decides for one output.

    values: `[batch, k]` logits (categorical, binary) or standardised numbers (real); for a text `[batch, 2]`: the
        negative log-likelihood of the row's target in nats, and of how many tokens it is
    terms: where the loss is taken; one term for a single view, more for decision-level fusion
    penalties: extra scalar losses of the fusion, already weighted (load balance, ranking, ...)
    views: `[batch, k]` decoded values of each view, by name
    """

    values: Tensor
    terms: list[LossTerm]
    penalties: dict[str, Tensor] = field(default_factory=dict)
    per_branch: dict[str, Tensor] = field(default_factory=dict)


def length_mask(length: Tensor, longest: int) -> Tensor:
    """`[items, longest]` bool: True at the places before each item's end; `length [items]`, an integer or a number."""
    return torch.arange(longest, device=length.device) < length.unsqueeze(1)
