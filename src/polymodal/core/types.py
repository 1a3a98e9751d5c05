"""The values that flow through a model: `Batch` -> `Tokens` -> `FusionOutput` -> `TaskOutput`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

# The meaning of a decoded number: mutually exclusive classes (softmax), independent binary labels (sigmoid), real
# numbers, or autoregressive tokens of a text or an image. Predictions are combined accordingly.
Space = Literal["categorical", "binary", "real", "text", "image"]
#: The spaces of tokens that a generative decoder predicts one after the other.
TOKEN_SPACES = ("text", "image")


class TimeGrid(NamedTuple):
    """A timeline in equal cells: cell i spans seconds `[i, i + 1) * seconds / frames`."""

    frames: int
    seconds: float


class BoxGrid(NamedTuple):
    """Cells over a picture, row by row. Each cell predicts a logit for each of `labels` and four numbers of a box."""

    rows: int
    columns: int
    labels: int


class TextShape(NamedTuple):
    """The tokens of a text, or of an image, that a decoder generates.

    vocab_size: tokens are numbers from 0 to vocab_size - 1
    bos_id, eos_id: the tokens before and after a text; -1 as `eos_id`: every target has the maximum length and no end
        token, as those of images
    max_prompt_length, max_target_length: limits in tokens; the target includes its end token
    checkpoint: the configuration of the checkpoint of the tokenizer, JSON-ready; None for a tokenizer trained here
    """

    vocab_size: int
    bos_id: int
    eos_id: int
    max_prompt_length: int
    max_target_length: int
    checkpoint: dict[str, Any] | None = None

    @property
    def has_end(self) -> bool:
        """Whether a target ends with an end token."""
        return self.eos_id >= 0


class OutputShape(NamedTuple):
    """The output of a decoder for a task: `values` numbers per row, interpreted in `space`.

    With a `grid`, there are values for each cell of a timeline, `values = grid.frames * labels`, cell by cell.
    With a `text`, a generative decoder predicts one of `values` tokens after the other.
    With `boxes`, there are values for each cell of a picture, `values = rows * columns * (labels + 4)`, cell by cell.
    """

    values: int
    space: Space
    grid: TimeGrid | None = None
    text: TextShape | None = None
    boxes: BoxGrid | None = None


@dataclass(frozen=True)
class InputBatch:
    """One input of a batch. Rows that share an item hold it once: `data` has the distinct items.

    data: prepared tensors by name, each `[items, ...]`
    index: `[batch]` int64, the item of each row (0 for a missing one)
    present: `[batch]` bool, False where the row lacks this input
    table_items: `[batch]` int64, the item of each row in the table; several processes compare their rows by it. None
        for one process
    """

    data: dict[str, Tensor]
    index: Tensor
    present: Tensor
    table_items: Tensor | None = None

    @property
    def item_numbers(self) -> Tensor:
        """`[batch]` int64: rows with equal numbers share their item."""
        return self.index if self.table_items is None else self.table_items

    def apply(self, function: Callable[[Tensor], Tensor]) -> InputBatch:
        """A copy with `function` of each tensor."""
        data = {name: function(tensor) for name, tensor in self.data.items()}
        items = None if self.table_items is None else function(self.table_items)
        return InputBatch(data, function(self.index), function(self.present), items)


@dataclass(frozen=True)
class TargetBatch:
    """One target of a batch: `value [batch, ...]` as collated by its task, `present [batch]` bool."""

    value: Tensor
    present: Tensor

    def apply(self, function: Callable[[Tensor], Tensor]) -> TargetBatch:
        """A copy with `function` of each tensor."""
        return TargetBatch(function(self.value), function(self.present))


@dataclass(frozen=True)
class Batch:
    """Prepared rows. `rows [batch]` are row numbers of the table, `weight [batch]` the sample weights.

    prompts: by output, the prompt tokens of a text target: `[batch, length]` int64, padded with -1; `[batch, 0]` if the
        output has no prompt
    """

    inputs: dict[str, InputBatch]
    targets: dict[str, TargetBatch]
    rows: Tensor
    weight: Tensor | None = None
    prompts: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: str | torch.device, *, non_blocking: bool = False) -> Batch:
        """A copy on the device of the network.

        non_blocking: do not wait for the copy of tensors in pinned memory
        """
        return self.apply(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def apply(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """A copy with `function` of each tensor."""
        return Batch(
            {name: one.apply(function) for name, one in self.inputs.items()},
            {name: one.apply(function) for name, one in self.targets.items()},
            function(self.rows),
            None if self.weight is None else function(self.weight),
            {name: function(prompt) for name, prompt in self.prompts.items()},
        )

    def tensors(self) -> list[Tensor]:
        """All tensors of the batch."""
        found: list[Tensor] = []
        self.apply(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
        return found


@dataclass(frozen=True)
class Tokens:
    """The output of an encoder, in the same form for every encoder.

    features: `[batch, length, width]`
    mask: `[batch, length]` bool, True = real. At least one position of every row is True: a missing input holds its
        learned "missing" token there.
    present: `[batch]` bool, False where the input is missing
    times: `[batch, length]` fp32, the middle of each token in seconds from the start of its item; None for an input
        that has no timeline
    grid: rows and columns of the picture that the tokens cover in row-major order; None if they cover none
    """

    features: Tensor
    mask: Tensor
    present: Tensor
    times: Tensor | None = None
    grid: tuple[int, int] | None = None

    def pooled(self) -> Tensor:
        """The mean of the real tokens, `[batch, width]`."""
        if self.features.shape[1] == 1:
            return self.features[:, 0]
        weight = self.mask.to(self.features.dtype).unsqueeze(-1)
        return (self.features * weight).sum(1) / weight.sum(1).clamp_min(1)

    def with_features(self, features: Tensor) -> Tokens:
        """A copy with other features of the same length."""
        return replace(self, features=features)


@dataclass(frozen=True)
class FusionOutput:
    """The output of a fusion, or of one of its branches, for a decoder.

    name: "joint", or the input of a branch of decision-level fusion
    tokens: the fused tokens
    pooled: `[batch, width]`, the pooled tokens
    weight: `[batch]`, the weight of this branch in the prediction of the row; 0 if the input of the branch is missing
    is_vector: whether `tokens` are a single vector per row
    input_tokens: the tokens of the inputs before fusion; the network adds them for decoders that attend to single
        tokens
    encoder_outputs: the output of the encoders before projection to the common width and normalization; the network
        adds it for decoders that need it (`Decoder.uses_encoder_outputs`)
    per_task: with task tokens, the fusion output for each task, by name; this output is then their mean
    penalties: extra losses of the fusion, as in `Fusion.penalties`
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
        """The input tokens that have a timeline."""
        return tuple(one for one in self.input_tokens.values() if one.times is not None)

    @property
    def pictured_inputs(self) -> tuple[Tokens, ...]:
        """The input tokens that cover a picture."""
        return tuple(one for one in self.input_tokens.values() if one.grid is not None)


@dataclass(frozen=True)
class LossTerm:
    """A term of a task's loss: predictions `values [batch, k]`, row weights `weight [batch]`, and a factor `scale`.

    members: `[members, batch, k]`, the predictions of the members of an ensemble, each of which has its own loss; None
        if the prediction has no members
    """

    name: str
    values: Tensor
    weight: Tensor
    scale: float = 1.0
    members: Tensor | None = None


@dataclass(frozen=True)
class TaskOutput:
    """The output of the model for one task.

    values: `[batch, k]` logits (categorical, binary) or standardized numbers (real); for a text `[batch, 2]`: the
        negative log-likelihood of the target in nats, and its number of tokens
    terms: terms of the loss: one for feature-level fusion, several for decision-level fusion
    penalties: extra scalar losses of the fusion, already weighted (load balancing, ranking, ...)
    per_branch: `[batch, k]` decoded values of each branch of the fusion, by name
    """

    values: Tensor
    terms: list[LossTerm]
    penalties: dict[str, Tensor] = field(default_factory=dict)
    per_branch: dict[str, Tensor] = field(default_factory=dict)


def length_mask(length: Tensor, longest: int) -> Tensor:
    """`[items, longest]` bool: True before the end of each item; `length [items]` is an integer or a float."""
    return torch.arange(longest, device=length.device) < length.unsqueeze(1)
