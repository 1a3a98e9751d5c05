"""Classification into two or more exclusive classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field, PositiveInt
from torch import Tensor
from torch.nn import functional
from typing_extensions import TypedDict

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.core.formatting import join_words
from polymodal.core.registry import register
from polymodal.core.types import Space
from polymodal.data.table.block import RowBlock
from polymodal.data.table.date_format import are_dates
from polymodal.data.table.number_format import infer_format
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics import classification, ranking
from polymodal.metrics.base import POSITIVE, UNIT, Metric
from polymodal.modalities.text import looks_like_identifiers
from polymodal.runtime.host_reads import device_constant
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.label_hash import label_hash
from polymodal.tasks.labels import (
    Label,
    LabelVocabulary,
    label_key,
    label_text,
    read_label,
    read_labels,
    summarize_labels,
)

# Integer columns with more distinct values are regression targets by default.
MAX_INTEGER_CLASSES = 20


def _label_texts(weights: Any) -> Any:
    """Class names as text: YAML reads the keys `1:` and `true:` as numbers and booleans."""
    return {label_text(label): value for label, value in weights.items()} if isinstance(weights, dict) else weights


ClassWeights = Annotated[dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_label_texts)]


class ClassificationState(TypedDict):
    """The saved state: the labels, and the number of training rows of each."""

    labels: list[Label]
    rows: list[PositiveInt]


@register
class ClassificationTask(Task):
    """One of k exclusive classes, with a softmax over k logits.

    The loss of a row of class y, with class weights w and label smoothing s (Szegedy et al., "Rethinking the Inception
    Architecture for Computer Vision", 2016, section 7):

        -(1 - s) w_y log p_y - (s / k) sum_c w_c log p_c

    Null and blank text are missing targets. A cell that is not a label (NaN, a list, a text among numbers) is a cell
    error and a missing target. A label that does not occur in training is a cell error and has no loss, but it is
    scored: the model gives its class the probability 0 (`scored_rows`).

    Example:
        >>> from polymodal.tasks.classification import ClassificationTask
        >>> ClassificationTask(ClassificationTask.Options(label_smoothing=0.1), columns=["animal"]).space
        'categorical'
    """

    class Options(TaskOptions):
        name: Literal["classification"] = "classification"
        class_weights: Literal["none", "balanced"] | ClassWeights = "none"
        """`balanced`: all classes have equal total weight in the loss, and balanced accuracy is the main metric. A
        mapping from class to weight sets the weights; classes that are not listed have weight 1. Weights are scaled to
        a mean of 1 over the training rows."""
        label_smoothing: float = Field(default=0.0, ge=0, lt=1)
        """Fraction of the probability that is distributed uniformly over all classes."""

    space: ClassVar[Space] = "categorical"
    options: Options

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        count, distinct = len(sample.values), sample.distinct
        if not count:
            return None
        reason = f"{distinct:,} distinct {{}} in {count:,} sampled cells"
        if all(isinstance(value, bool | np.bool_) for value in sample.values):
            return Match(0.95, "true/false values")
        if all(isinstance(value, str) for value in sample.values):
            format = None if _are_whole(sample.values) else infer_format(sample.values)
            if format is not None or are_dates(sample.values):  # prices, measurements, dates
                few = format is not None and distinct <= MAX_INTEGER_CLASSES and count >= 5 * distinct
                return Match(0.8 if few else 0.2, reason.format("numbers")) if format is not None else None
            if looks_like_identifiers(sample.values):
                return None
            repeated = 1 - distinct / count
            return Match(0.9 if repeated >= 0.5 else 0.1 + repeated, reason.format("strings"))
        if not all(_is_integer(value) for value in sample.values):
            return None
        few_values = distinct <= MAX_INTEGER_CLASSES and (count >= 5 * distinct or distinct <= 2 < count)
        return Match(0.8 if few_values else 0.2, reason.format("whole numbers"))

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        found = read_labels(
            blocks, self.columns[0], lambda cell: [label for label in [read_label(cell)] if label != ""]
        )
        if len(found.labels) < 2:
            only = f"only {found.labels[0]!r}" if found.labels else f"no labels{found.problem}"
            raise DataError(
                f"classification needs at least two classes; the training rows have {only}", column=self.columns[0]
            )
        self._set_labels(found.labels, found.count)

    def _set_labels(self, labels: Iterable[Label], rows: Callable[[Label], int]) -> None:
        self.labels = LabelVocabulary(labels)
        self.rows = np.array([rows(label) for label in self.labels.values], dtype=np.int64)
        self.frequencies = self.rows / self.rows.sum()
        self.weights = self._class_weights()
        single = [label for label, count in zip(self.labels.values, self.rows, strict=True) if count == 1]
        self._notes = summarize_labels(
            single, "class {!r} has 1 training row", "{} classes have 1 training row each, such as {!r}"
        )

    @property
    def warnings(self) -> list[str]:
        """Classes whose labels differ by case or blanks only: they are different classes, perhaps by mistake."""
        alike: dict[str, list[str]] = {}
        for label in self.labels.values:
            if isinstance(label, str):
                alike.setdefault(" ".join(label.split()).casefold(), []).append(label)
        return [
            f"the classes {join_words([repr(label) for label in labels])} of column {self.columns[0]!r} differ by case "
            "or blanks only, and are different classes"
            for labels in alike.values()
            if len(labels) > 1
        ]

    def _class_weights(self) -> np.ndarray:
        """Weights `[k]` with a mean of 1 over the training rows."""
        weights_option = self.options.class_weights
        if weights_option == "none":
            return np.ones(len(self.labels))
        if weights_option == "balanced":
            return 1 / (self.frequencies * len(self.labels))
        for name in weights_option:
            if name not in self.classes:
                raise RecipeError("class_weights", f"there is no class {name!r}; {did_you_mean(name, self.classes)}")
        weights = np.array([weights_option.get(name, 1.0) for name in self.classes])
        return weights / (self.frequencies @ weights)

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        value, present = np.zeros(len(block), dtype=np.int64), np.zeros(len(block), dtype=bool)
        for position, cell in enumerate(block.cells(self.columns[0])):
            if cell is None or (isinstance(cell, str) and not cell.strip()):
                continue
            try:
                label = self.labels.check_type(read_label(cell))
            except ValueError as error:
                block.add_error(position, self.columns[0], str(error))
                continue
            try:
                value[position] = self.labels.index(label)
            except ValueError as error:
                block.add_error(position, self.columns[0], f"{error}, so scores count the row as wrong")
                value[position] = _unknown_class(label)
                continue
            present[position] = True
        return value, present

    def scored_rows(self, value: np.ndarray, present: np.ndarray) -> np.ndarray:
        return present | (value < 0)

    def collate(self, value: np.ndarray) -> Tensor:
        return torch.from_numpy(np.maximum(value, 0))  # unknown classes are not present, so they have no loss

    @property
    def output_size(self) -> int:
        return len(self.labels)

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        weight = device_constant(self.weights, values.device)
        return functional.cross_entropy(
            values.float(),
            target,
            weight=weight,
            label_smoothing=self.options.label_smoothing,
            reduction="none",
        )

    def baseline_loss(self) -> float:
        """sum_c a_c log(A / a_c) with a_c = w_c ((1 - s) f_c + s / k), class frequencies f_c and A = sum_c a_c: the
        loss of the constant p_c = a_c / A, the optimum."""
        smoothing = self.options.label_smoothing
        mass = self.weights * ((1 - smoothing) * self.frequencies + smoothing / self.output_size)
        return float(mass @ np.log(mass.sum() / mass))

    def baseline_prediction(self) -> np.ndarray:
        return self.frequencies

    def distribution(self, values: Tensor) -> np.ndarray:
        return values.detach().double().softmax(-1).cpu().numpy()

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return [self.labels.values[number] for number in distribution.argmax(1)]

    def truth(self, value: np.ndarray) -> np.ndarray:
        """Class indices; the unknown classes are numbered from `k` on."""
        unknown = value < 0
        if not unknown.any():
            return value
        truth = value.copy()
        truth[unknown] = self.output_size + np.unique(value[unknown], return_inverse=True)[1]
        return truth

    @property
    def metrics(self) -> list[Metric]:
        accuracy = Metric("accuracy", classification.accuracy, bounds=UNIT)
        balanced = Metric("balanced_accuracy", classification.balanced_accuracy, bounds=UNIT)
        return [
            *([balanced, accuracy] if self.options.class_weights == "balanced" else [accuracy, balanced]),
            Metric("f1_macro", classification.f1_macro, bounds=UNIT),
            Metric("precision_macro", classification.precision_macro, bounds=UNIT),
            Metric("recall_macro", classification.recall_macro, bounds=UNIT),
            Metric("roc_auc", ranking.roc_auc, prepared=ranking.prepared_roc_auc, bounds=UNIT),
            Metric(
                "average_precision",
                ranking.average_precision,
                prepared=ranking.prepared_average_precision,
                bounds=UNIT,
            ),
            Metric("log_loss", classification.log_loss, greater_is_better=False, bounds=POSITIVE),
        ]

    @property
    def classes(self) -> list[str]:
        return [label_text(label) for label in self.labels.values]

    @property
    def class_labels(self) -> list[Any]:
        return list(self.labels.values)

    state_type = ClassificationState

    def save(self) -> dict[str, Any]:
        return {"labels": self.labels.values, "rows": self.rows.tolist()}

    def load(self, state: dict[str, Any]) -> None:
        rows = {label_key(label): count for label, count in zip(state["labels"], state["rows"], strict=True)}
        self._set_labels(state["labels"], lambda label: rows[label_key(label)])


def _unknown_class(label: Label) -> int:
    """The target of a class that does not occur in training: a negative hash, different for each class."""
    return -1 - (label_hash(label) & (2**62 - 1))


def _are_whole(texts: list[str]) -> bool:
    """Whether texts are whole numbers without a unit, which are labels if they repeat."""
    return all(text.strip().lstrip("-").isdigit() for text in texts)


def _is_integer(value: Any) -> bool:
    """Whether a value is an integer, including the floats of an integer column with missing values."""
    if isinstance(value, float | np.floating):
        return float(value).is_integer()
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
