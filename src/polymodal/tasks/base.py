"""Base class of tasks: one kind of target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.options import Options
from polymodal.core.types import OutputShape, Space, TextShape, TimeGrid
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics.base import Metric


class TaskOptions(Options):
    """Base class of task options."""


class Task(ABC):
    """Base class of tasks. An instance serves one output of a recipe (one or more target columns).

    The life cycle is `match_column` -> `fit` (training rows only) -> `prepare` (any rows) -> `loss` in training ->
    `distribution` and `predict` on raw predictions. A distribution holds the probabilities of the classes, or numbers
    in the units of the target column.

    Subclasses define `Options`, the class variables and the abstract methods below, and are registered with `register`.

    Example:
        >>> import torch
        >>> from polymodal.tasks.classification import ClassificationTask
        >>> task = ClassificationTask(ClassificationTask.Options(), columns=["animal"])
        >>> task.load({"labels": ["cat", "dog"], "rows": [2, 1]})  # in place of fit
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # raw predictions of two rows
        >>> task.loss(logits, torch.tensor([0, 1])).shape
        torch.Size([2])
        >>> task.predict(task.distribution(logits))
        ['cat', 'dog']
    """

    kind: ClassVar[str] = "task"
    Options: ClassVar[type[TaskOptions]]
    #: How raw predictions are interpreted and combined; see `core.types.Space`.
    space: ClassVar[Space]
    #: Whether targets are times, so that encoders must keep the times of their tokens.
    needs_timestamps: ClassVar[bool] = False
    #: Whether targets are boxes in a picture, so that encoders must keep the positions of their tokens.
    needs_positions: ClassVar[bool] = False
    #: Whether the outputs are texts, which a generative decoder produces.
    is_generative: ClassVar[bool] = False
    #: Whether the outputs are embeddings, which are comparable only within one model.
    is_embedding: ClassVar[bool] = False
    #: Whether the loss of a row depends on the other rows of the batch.
    compares_rows: ClassVar[bool] = False
    #: Whether a target may have several columns (regression of several numbers).
    many_columns: ClassVar[bool] = False
    #: Default decoder.
    default_decoder: ClassVar[str] = "mlp"
    #: Default fusion if this is the first output; None: the default of the recipe.
    default_fusion: ClassVar[str | None] = None

    def __init__(self, options: TaskOptions, *, columns: list[str]) -> None:
        if len(columns) != 1 and not self.many_columns:
            article = "an" if options.name[0] in "aeiou" else "a"
            raise RecipeError(
                "columns", f"{article} {options.name} output needs exactly one column, not {len(columns)}: {columns}"
            )
        self.options, self.columns = options, columns
        self._notes: list[str] = []

    @classmethod
    @abstractmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        """Confidence that a target column is of this task, with a reason; None if it cannot be."""

    @abstractmethod
    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Fit to the training rows: classes and their frequencies, mean and scale of numbers.

        Raises:
            DataError: nothing can be learned (a single class, no values).
        """

    @abstractmethod
    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        """Targets of a block: `value [rows, ...]` and `present [rows]` bool. Unusable targets are recorded as cell
        errors and are not present."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Number of values of a raw prediction, `k`."""

    @property
    def grid(self) -> TimeGrid | None:
        """Timeline of the predictions; None for a task with one prediction per row."""
        return None

    @property
    def notes(self) -> list[str]:
        """Notes on the targets for the report, one sentence each."""
        return self._notes

    @classmethod
    def is_network_only(cls) -> bool:
        """Whether only a network can predict the targets: texts, embeddings, events and boxes."""
        return cls.is_generative or cls.is_embedding or cls.needs_timestamps or cls.needs_positions

    @property
    def has_several_predictions(self) -> bool:
        """Whether a row has several predictions: the events of a timeline, or the boxes of a picture."""
        return self.grid is not None or self.needs_positions

    @property
    def warnings(self) -> list[str]:
        """Sentences about the targets that a user should see before the training."""
        return []

    @property
    def threshold(self) -> float:
        """Decision threshold of labels that do not exclude each other."""
        return 0.5

    @property
    def has_probabilities(self) -> bool:
        """Whether a distribution holds probabilities of `classes`."""
        return self.space in ("categorical", "binary")

    @property
    def generates_for_selection(self) -> bool:
        """Whether the best epoch is selected by a metric of generated texts, not by the validation loss."""
        return False

    @property
    def text_shape(self) -> TextShape | None:
        """Token ids and lengths of the generated texts; None for a task without text generation."""
        return None

    @property
    def output_shape(self) -> OutputShape:
        """Shape of the output that the decoder must produce."""
        return OutputShape(self.output_size, self.space, self.grid, self.text_shape)

    @property
    def prompt_columns(self) -> list[str]:
        """Columns from which the prompts are built, or whose picture has the boxes. Prediction needs them too."""
        return []

    def prompts(self, block: RowBlock) -> np.ndarray | None:
        """Prompt of each row of a block, `[rows]` arrays of int32: its tokens, or width and height of the picture that
        has the boxes. None for a task without prompts, and in rows whose prompt is unusable, which are recorded as cell
        errors."""
        return None

    def row_groups(self, value: np.ndarray, present: np.ndarray) -> np.ndarray | None:
        """Group of each row, `[rows]`; -1: none. Each training batch holds several rows of a group. None if the
        composition of batches is irrelevant."""
        return None

    def collate(self, value: np.ndarray) -> Tensor:
        """Collate the prepared targets of a batch into one tensor `[batch, ...]`."""
        return torch.from_numpy(value)

    def row_loss_weights(self, values: Tensor) -> Tensor | None:
        """Additional weight of the loss of each row, `[batch]`, such as its number of tokens; None: equal weights."""
        return None

    def baseline_predictions(self, rows: int) -> np.ndarray:
        """Baseline prediction for `rows` rows, as a distribution `[rows, k]`."""
        return np.broadcast_to(self.baseline_prediction(), (rows, self.output_size))

    def scored_rows(self, value: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Rows that a score counts, `[rows]` bool. Default: the rows with a target. Classification adds the rows of
        classes that do not occur in training, which no prediction can get right."""
        return present

    def counted_rows(self, value: np.ndarray) -> np.ndarray:
        """Which of the scored rows change a metric, `[rows]` bool, from their prepared targets. Default: all. Metric
        learning: the rows that share their group with another row."""
        return np.ones(len(value), dtype=bool)

    @abstractmethod
    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, `[batch]`, in fp32, from raw predictions `values [batch, k]` and prepared targets `[batch,
        ...]`."""

    @abstractmethod
    def baseline_loss(self) -> float:
        """Loss of the best constant prediction on the training rows. A model at this loss has learned nothing."""

    @abstractmethod
    def baseline_prediction(self) -> np.ndarray:
        """Best constant prediction as a distribution `[k]`: class frequencies, or the mean in target units."""

    def missing_predictions(self, rows: int) -> np.ndarray:
        """Distribution `[rows, k]` of missing predictions: NaN everywhere."""
        return np.full((rows, self.output_size), np.nan)

    @abstractmethod
    def distribution(self, values: Tensor) -> np.ndarray:
        """Raw predictions `[rows, k]` -> float64 `[rows, k]`: probabilities, or numbers in the units of the target."""

    @abstractmethod
    def predict(self, distribution: np.ndarray) -> list[Any]:
        """Prediction of each row in the format of the target column: a label, a list of labels, a number or several."""

    @abstractmethod
    def truth(self, value: np.ndarray) -> np.ndarray:
        """Prepared targets `[rows, ...]` in the format of the metrics: class indices, 0/1 labels, or numbers in the
        units of the target."""

    def raw_values(self, distribution: np.ndarray) -> Tensor:
        """The inverse of `distribution`, for tasks with boxes; `model.distributions` has that of the others."""
        raise NotImplementedError(type(self).__name__)

    def with_labels_of(self, distribution: np.ndarray, reference: Task) -> np.ndarray:
        """The distribution with the labels of another task of this type, for tasks with boxes;
        `evaluation.class_alignment` has that of the others."""
        raise NotImplementedError(type(self).__name__)

    def class_scores(
        self, distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray
    ) -> dict[str, list[float]] | None:
        """`precision`, `recall`, `f1` and `support` of each class. None: they follow from `per_class_arrays`."""
        return None

    def per_class_arrays(
        self, distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distribution, truth and weight for per-class tables, with one column for each of `classes`. Timelines have
        one row for each segment."""
        return distribution, truth, weight

    @property
    @abstractmethod
    def metrics(self) -> list[Metric]:
        """Metrics of this task. The first is the main metric, used by early stopping and comparisons."""

    @property
    def classes(self) -> list[str]:
        """Names of the `k` values (class, label or column names), for tables and reports. With a `grid`: of the values
        of one cell."""
        return self.columns

    @property
    def class_labels(self) -> list[Any]:
        """`classes` in the type of the training table, as `predict` returns them: 1 or True, and not their names."""
        return list(self.classes)

    def write_files(self, folder: Path) -> None:  # noqa: B027 - most tasks have no files
        """Write fitted state that `save` does not contain, such as a tokenizer, into `folder`. Default: nothing."""

    def read_files(self, folder: Path) -> None:  # noqa: B027
        """Read the files of `write_files`; called before `load`."""

    #: The structure of the saved state, which is checked before `load`.
    state_type: ClassVar[Any] = dict[str, Any]

    @abstractmethod
    def save(self) -> dict[str, Any]:
        """Fitted state, JSON-compatible."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Restore the state of `save`, in place of `fit`."""
