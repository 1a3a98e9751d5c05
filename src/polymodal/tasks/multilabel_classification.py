"""Multi-label classification: any number of labels for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional
from typing_extensions import TypedDict

from polymodal.core.errors import DataError
from polymodal.core.registry import register
from polymodal.core.types import Space
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics import classification, ranking
from polymodal.metrics.base import UNIT, Metric
from polymodal.runtime.host_reads import device_constant
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.labels import (
    Label,
    LabelVocabulary,
    label_key,
    label_text,
    read_label,
    read_labels,
    summarize_labels,
)

Sequence = list | tuple | set | frozenset | np.ndarray


class MultilabelState(TypedDict):
    """The saved state: the labels, the number of training rows of each, and of all."""

    labels: list[Label]
    positives: list[PositiveInt]
    rows: PositiveInt


@register
class MultilabelClassificationTask(Task):
    """Multi-label classification: each of k labels is present or not, with a sigmoid over k logits.

    The loss of a row is the mean over labels of the binary cross-entropy, with weight v_c on the positives:

        -(1 / k) sum_c [v_c y_c log p_c + (1 - y_c) log(1 - p_c)]

    A cell is a list of labels, or text with a separator between labels; an empty cell has no labels. Null is a missing
    target. A cell with a label that does not occur in training is a cell error and a missing target.
    """

    class Options(TaskOptions):
        name: Literal["multilabel_classification"] = "multilabel_classification"
        separator: str = Field(default="|", min_length=1)
        """Separator of labels in text cells; spaces around a label are removed."""
        pos_weight: Literal["none", "balanced"] = "none"
        """`balanced`: positives and negatives of each label have equal total weight. Probabilities of rare labels are
        then higher than their frequency."""
        threshold: float = Field(default=0.5, gt=0, lt=1)
        """Decision threshold: labels with at least this probability are predicted."""

    space: ClassVar[Space] = "binary"
    options: Options

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        cells = sample.values
        if cells and all(isinstance(cell, Sequence) for cell in cells):
            parts = [label for cell in cells for label in cell]
            if not parts or not all(isinstance(label, str | bool | int | np.integer) for label in parts):
                return None
            distinct = len({str(label) for label in parts})
            numbers = not isinstance(parts[0], str)
            return Match(
                0.3 if numbers else 0.9,
                f"lists of labels, {distinct:,} distinct in {len(cells):,} sampled cells",
            )
        if not cells or not all(isinstance(cell, str) for cell in cells):
            return None
        separator = str(cls.Options.model_fields["separator"].default)
        labels = {part.strip() for cell in cells for part in cell.split(separator)}
        if sum(separator in cell for cell in cells) < 0.2 * len(cells) or 2 * len(labels) > len(cells):
            return None
        return Match(0.92, f"text with {separator!r} between {len(labels):,} distinct labels")

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        column = self.columns[0]
        found = read_labels(blocks, column, self._split)
        if not found.labels:
            raise DataError(f"the training rows have no labels{found.problem}", column=column)
        if all(count == found.rows for count in found.counts.values()):
            raise DataError("all training rows have the same labels, so there is nothing to learn", column=column)
        self._set_labels(found.labels, found.count, found.rows)

    def _set_labels(self, labels: Iterable[Label], positives: Callable[[Label], int], rows: int) -> None:
        self.labels, self.rows = LabelVocabulary(labels), rows
        self.positives = np.array([positives(label) for label in self.labels.values], dtype=np.int64)
        self.frequencies = self.positives / rows
        self.weights = np.ones(len(self.labels))
        if self.options.pos_weight == "balanced":
            everywhere = self.positives == rows
            self.weights = np.where(everywhere, 1.0, (rows - self.positives) / self.positives)
        counted = list(zip(self.labels.values, self.positives, strict=True))
        single = [label for label, count in counted if count == 1]
        constant = [label for label, count in counted if count == rows]
        self._notes = summarize_labels(
            single, "label {!r} has 1 training row", "{} labels have 1 training row each, such as {!r}"
        )
        self._notes += summarize_labels(
            constant,
            "label {!r} occurs in every training row",
            "{} labels occur in every training row, such as {!r}",
        )

    def _split(self, cell: Any) -> list[Label]:
        if isinstance(cell, str):
            return [part.strip() for part in cell.split(self.options.separator) if part.strip()]
        if not isinstance(cell, Sequence):
            raise ValueError(f"expected a list of labels, or text, not {type(cell).__name__}")
        return [read_label(label) for label in cell]

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        value = np.zeros((len(block), len(self.labels)), dtype=np.uint8)
        present = np.zeros(len(block), dtype=bool)
        for position, cell in enumerate(block.cells(self.columns[0])):
            if cell is None:
                continue
            try:
                numbers = [self.labels.index(label) for label in self._split(cell)]
            except ValueError as error:
                block.add_error(position, self.columns[0], str(error))
                continue
            value[position, numbers] = 1
            present[position] = True
        return value, present

    @property
    def threshold(self) -> float:
        return self.options.threshold

    @property
    def output_size(self) -> int:
        return len(self.labels)

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        weight = device_constant(self.weights, values.device)
        return functional.binary_cross_entropy_with_logits(
            values.float(), target.float(), pos_weight=weight, reduction="none"
        ).mean(-1)

    def baseline_loss(self) -> float:
        """Mean over labels of the loss of the constant p = v f / (v f + 1 - f), with the fraction f of rows that have
        the label."""
        positive, negative = self.weights * self.frequencies, 1 - self.frequencies
        best = positive / (positive + negative)
        bits = [
            np.where(frequency > 0, -frequency * np.log(np.where(frequency > 0, p, 1.0)), 0.0)
            for frequency, p in ((positive, best), (negative, 1 - best))
        ]
        return float((bits[0] + bits[1]).mean())

    def baseline_prediction(self) -> np.ndarray:
        return self.frequencies

    def distribution(self, values: Tensor) -> np.ndarray:
        return values.detach().double().sigmoid().cpu().numpy()

    def predict(self, distribution: np.ndarray) -> list[Any]:
        predicted = distribution >= self.threshold
        return [[self.labels.values[number] for number in np.flatnonzero(row)] for row in predicted]

    def truth(self, value: np.ndarray) -> np.ndarray:
        return value

    @property
    def metrics(self) -> list[Metric]:
        at = self.threshold
        return [
            Metric(
                "average_precision",
                ranking.average_precision,
                prepared=ranking.prepared_average_precision,
                bounds=UNIT,
            ),
            Metric("f1_micro", partial(classification.f1_micro, threshold=at), bounds=UNIT),
            Metric("precision_micro", partial(classification.precision_micro, threshold=at), bounds=UNIT),
            Metric("recall_micro", partial(classification.recall_micro, threshold=at), bounds=UNIT),
            Metric("f1_macro", partial(classification.f1_macro, threshold=at), bounds=UNIT),
            Metric("subset_accuracy", partial(classification.subset_accuracy, threshold=at), bounds=UNIT),
            Metric("roc_auc", ranking.roc_auc, prepared=ranking.prepared_roc_auc, bounds=UNIT),
        ]

    @property
    def classes(self) -> list[str]:
        return [label_text(label) for label in self.labels.values]

    @property
    def class_labels(self) -> list[Any]:
        return list(self.labels.values)

    state_type = MultilabelState

    def save(self) -> dict[str, Any]:
        return {"labels": self.labels.values, "positives": self.positives.tolist(), "rows": self.rows}

    def load(self, state: dict[str, Any]) -> None:
        counts = {label_key(label): count for label, count in zip(state["labels"], state["positives"], strict=True)}
        self._set_labels(state["labels"], lambda label: counts[label_key(label)], state["rows"])
