"""What a task is: one kind of target. It recognises its column, prepares it, and gives loss, prediction and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from polymodal.core.options import Options
from polymodal.core.types import TimeGrid, OutputShape, Space, TextShape
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics.base import Metric


class TaskOptions(Options):
    """Base of every task's options."""


class Task(ABC):
    """Base of every task. One instance serves one output of a recipe (one or more columns).

    The life of an instance: `match_column` -> `fit` (training rows only) -> `prepare` (any rows) -> `loss` while
    training -> `distribution` and `predict` on what the model decided.
    """

    kind: ClassVar[str] = "task"
    Options: ClassVar[type[TaskOptions]]
    #: How decoded values are read and combined; see `core.types.Space`.
    space: ClassVar[Space]
    #: Whether targets are moments in time, so that inputs must keep theirs.
    needs_timestamps: ClassVar[bool] = False
    #: Whether answers are texts, which a decoder that writes writes.
    is_generative: ClassVar[bool] = False
    #: Whether answers are vectors that mean something only beside others of the same model.
    is_embedding: ClassVar[bool] = False
    #: The decoder that answers where the recipe names none.
    default_decoder: ClassVar[str] = "mlp"
    #: The fusion where the recipe names none and this is the first output; None: the recipe's own default.
    default_fusion: ClassVar[str | None] = None

    def __init__(self, options: TaskOptions, *, columns: list[str]) -> None:
        self.options, self.columns = options, columns
        self._notes: list[str] = []

    @classmethod
    @abstractmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        """How likely this column, named as a target, is of this task, and why; None if it cannot be."""

    @abstractmethod
    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Learn from the training rows: the classes and their shares, the mean and scale of numbers.

        Raises:
            DataError: there is nothing to learn (one class, no value).
        """

    @abstractmethod
    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        """Targets of a block: `value [rows, ...]` and `present [rows]` bool. Unusable targets are faults and gaps."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """How many values the decoder must give, `k`."""

    @property
    def grid(self) -> TimeGrid | None:
        """The timeline on which values are decided; None for a task that decides once for the whole row."""
        return None

    @property
    def notes(self) -> list[str]:
        """What the report tells of the targets, a sentence each."""
        return self._notes

    @property
    def threshold(self) -> float:
        """Probability from which a label counts as there, where labels do not exclude each other."""
        return 0.5

    @property
    def has_probabilities(self) -> bool:
        """Whether a distribution holds probabilities of `classes`."""
        return self.space in ("categorical", "binary")

    @property
    def generates_for_selection(self) -> bool:
        """Whether epochs are compared by the scores of texts that are written for it, and not by their likelihood."""
        return False

    @property
    def text_shape(self) -> TextShape | None:
        """The tokens of the texts that are written; None for a task that does not write."""
        return None

    @property
    def output_shape(self) -> OutputShape:
        """What the task asks of its decoder."""
        return OutputShape(self.output_size, self.space, self.grid, self.text_shape)

    @property
    def prompt_columns(self) -> list[str]:
        """Columns, beside the targets, from which the prompts of answers are made; prediction needs them too."""
        return []

    def prompts(self, block: RowBlock) -> np.ndarray | None:
        """The prompt of each row of a block, `[rows]` arrays of int32 tokens (None in a row whose prompt cannot be
        used, which is a fault); None for a task without prompts."""
        return None

    def row_groups(self, value: np.ndarray, present: np.ndarray) -> np.ndarray | None:
        """The group of each row, `[rows]`, of which training puts some rows into one batch (-1: of none); None where it
        does not matter which rows are in a batch."""
        return None

    def collate(self, value: np.ndarray) -> Tensor:
        """Prepared targets of the rows of a batch as one tensor `[batch, ...]`."""
        return torch.from_numpy(value)

    def row_loss_weights(self, values: Tensor) -> Tensor | None:
        """How much the loss of each row counts beside its weight, `[batch]`; None: all alike."""
        return None

    def baseline_predictions(self, rows: int) -> np.ndarray:
        """The best constant answer for so many rows, as a distribution `[rows, k]`."""
        return np.broadcast_to(self.baseline_prediction(), (rows, self.output_size))

    @abstractmethod
    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, `[batch]`, in fp32: `values [batch, k]` against prepared targets `[batch, ...]`."""

    @abstractmethod
    def baseline_loss(self) -> float:
        """The loss of the best constant answer on the training rows; a run that stays there has learned nothing."""

    @abstractmethod
    def baseline_prediction(self) -> np.ndarray:
        """The best constant answer as a distribution `[k]` (class shares; the mean in user units): the floor."""

    def missing_predictions(self, rows: int) -> np.ndarray:
        """A distribution `[rows, k]` in which nothing is decided yet: NaN everywhere."""
        return np.full((rows, self.output_size), np.nan)

    @abstractmethod
    def distribution(self, values: Tensor) -> np.ndarray:
        """Decided values `[rows, k]` -> float64 `[rows, k]`: probabilities, or numbers in the user's units."""

    @abstractmethod
    def predict(self, distribution: np.ndarray) -> list[Any]:
        """The answer of each row as the user wrote such answers: a label, a list of labels, a number (or several)."""

    @abstractmethod
    def truth(self, value: np.ndarray) -> np.ndarray:
        """Prepared targets `[rows, ...]` as the metrics read them (class numbers, 0/1 labels, user units)."""

    def per_class_arrays(
        self, distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distribution, truth and weight as tables by class read them, one column for each of `classes`; a timeline
        has a row for each of its segments there."""
        return distribution, truth, weight

    @property
    @abstractmethod
    def metrics(self) -> list[Metric]:
        """The metrics of this task; the first is the one that early stopping and comparison use."""

    @property
    def classes(self) -> list[str]:
        """Names of the `k` values (class or label or column names), for tables and reports; with a `grid`, of the
        values of one cell."""
        return self.columns

    def write_files(self, folder: Path) -> None:  # noqa: B027 - most tasks have no files
        """Write what `fit` learned and `save` does not hold, as a tokenizer, into `folder`; nothing here."""

    def read_files(self, folder: Path) -> None:  # noqa: B027
        """Take back what `write_files` wrote; called before `load`."""

    @abstractmethod
    def save(self) -> dict[str, Any]:
        """What `fit` learned, JSON-ready."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Take back what `save` gave, in place of `fit`."""
