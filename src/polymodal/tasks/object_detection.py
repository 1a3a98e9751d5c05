"""Object detection: boxes with labels in a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from scipy.special import expit, logit
from torch import Tensor
from typing_extensions import TypedDict

from polymodal.core.errors import DataError
from polymodal.core.record import PositiveFinite
from polymodal.core.registry import register
from polymodal.core.types import BoxGrid, OutputShape, Space
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.metrics import boxes as scores
from polymodal.metrics.base import Metric
from polymodal.metrics.boxes import BoxList, LabelMatches
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.box_cells import LabeledBox, clip_to_picture, read_boxes
from polymodal.tasks.box_constants import BoxConstants, fit_constants
from polymodal.tasks.box_grid import Detections, corners, detect, row_losses
from polymodal.tasks.labels import (
    Label,
    LabelVocabulary,
    first_problem,
    label_key,
    label_text,
    summarize_labels,
)
from polymodal.tasks.picture_size import Size, picture_sizes

#: Numbers of a prepared box: left, top, right, bottom (fractions of the picture), number of the label (-1: no box), and
#: 1 for a crowd.
BOX_NUMBERS = 6
#: Predicted boxes with a lower score do not count in metrics.
MIN_SCORE = 0.02
#: Probabilities are kept this far from 0 and 1 before a logarithm.
TINY = 1e-6


class DetectionState(TypedDict):
    """The saved state: the labels, the size of a picture without a size, the mean number of cells with a box in a row,
    the mean loss of the boxes of a row with the best constant box, that box, and the mean of each cell and label."""

    labels: list[Label]
    canvas: tuple[PositiveFinite, PositiveFinite]
    cells_per_row: PositiveFinite
    box_loss: FiniteFloat
    mean_box: tuple[FiniteFloat, FiniteFloat]
    mean_cells: list[FiniteFloat]


@register
class ObjectDetectionTask(Task):
    """Object detection: any number of boxes with a label in a picture.

    A table cell is a list of boxes such as `[4, 2, 10.5, 8, "cat"]`: left, top, width and height in pixels of the
    upright original picture, and a label. A box may also be a mapping with the keys `x`, `y`, `width`, `height` and
    `label`, and `iscrowd` for a group of objects, as in COCO. The list may be JSON text. An empty list means no boxes;
    null is a missing target. A box without area, outside its picture, or of a label that does not occur in training,
    makes the whole list a cell error and a missing target.

    Predictions are mappings with a `score`, in pixels of the original picture. A row without its picture is predicted
    on a picture of the median size.

    Each cell of a grid over the picture predicts the probability p of each label and a box. The loss of a row is

        (1 / m) [sum_c BCE(p_c, y_c) + sum_{c with a box} (1 - GIoU(b_c, b))]

    over cells c, where y is 1 for the label of the box of a cell, and m is the mean number of cells with a box in a
    training row. See `tasks.box_grid` for the cells of a box. Metrics: average precision of COCO (`metrics.boxes`).
    """

    class Options(TaskOptions):
        name: Literal["object_detection"] = "object_detection"
        image: str | None = None
        """Column of the pictures that have the boxes. Default: the only image input. Without one, boxes are fractions
        of the area that the training boxes cover."""
        cells: int = Field(default=16, ge=2, le=64)
        """Rows and columns of the grid. A cell predicts one box, so objects whose centers share a cell are one."""
        threshold: float = Field(default=0.3, gt=0, lt=1)
        """Predicted boxes have at least this probability."""
        max_overlap: float = Field(default=0.5, gt=0, lt=1)
        """Non-maximum suppression: a box is dropped if its intersection over union with a better box of the same label
        is higher."""
        max_boxes: int = Field(default=100, ge=1, le=1_000)
        """Maximum number of boxes of a row. A cell with more is a cell error."""

    space: ClassVar[Space] = "real"
    default_decoder: ClassVar[str] = "fcos"
    needs_positions: ClassVar[bool] = True
    options: Options

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        count = 0
        for cell in sample.values:
            try:
                count += len(read_boxes(cell))
            except ValueError:
                return None
        return Match(0.95, f"lists of boxes, {count:,} in {len(sample.values):,} sampled cells") if count else None

    def fit(self, blocks: Iterable[RowBlock]) -> None:
        scores.cocoeval()  # a missing package is found before the training
        column = self.columns[0]
        sizes, problems = list[Size](), list[str]()
        rows: list[tuple[list[LabeledBox], Size | None]] = []
        for block in blocks:
            known = self._sizes(block)
            sizes += [size for size in known if size is not None]
            for size, cell in zip(known, block.cells(column), strict=True):
                try:
                    rows += [] if cell is None else [(read_boxes(cell), size)]
                except ValueError as error:
                    problems.append(str(error))
        boxes = [box for found, _ in rows for box in found]
        if not boxes:
            raise DataError(f"the training rows have no box{first_problem(problems)}", column=column)
        extent = [(box.x + box.width, box.y + box.height) for box in boxes]
        canvas = np.median(sizes, axis=0) if sizes else np.max(extent, axis=0)
        self.canvas = (max(1.0, float(canvas[0])), max(1.0, float(canvas[1])))
        self.labels = LabelVocabulary({label_key(box.label): box.label for box in boxes}.values())
        self._fit_constants(rows, column)
        counts = Counter(label_key(box.label) for box in boxes)
        single = [label for label in self.labels.values if counts[label_key(label)] == 1]
        self._notes = summarize_labels(
            single,
            "label {!r} occurs once in the training rows",
            "{} labels occur once in the training rows, such as {!r}",
        )

    def _fit_constants(self, rows: list[tuple[list[LabeledBox], Size | None]], column: str) -> None:
        """Set the best constant prediction and its loss."""
        usable, problems = [], list[str]()
        for found, size in rows:
            try:
                usable.append(self._fractions(found, size))
            except ValueError as error:
                problems.append(str(error))
        if not usable:
            raise DataError(f"no boxes of the training rows can be used{first_problem(problems)}", column=column)
        self.constants = fit_constants(usable, self.box_grid)

    @property
    def box_grid(self) -> BoxGrid:
        """The grid of the predictions."""
        return BoxGrid(self.options.cells, self.options.cells, len(self.labels))

    @property
    def prompt_columns(self) -> list[str]:
        return [] if self.options.image is None else [self.options.image]

    def prompts(self, block: RowBlock) -> np.ndarray | None:
        """Width and height of the picture of each row in pixels, `[rows]` arrays of two int32."""
        if self.options.image is None:
            return None
        found = np.empty(len(block), dtype=object)
        for position, size in enumerate(self._sizes(block)):
            found[position] = np.array(self.canvas if size is None else size).round().astype(np.int32)
        return found

    def _sizes(self, block: RowBlock) -> list[Size | None]:
        return [None] * len(block) if self.options.image is None else picture_sizes(block, self.options.image)

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        value = np.zeros((len(block), 2 + self.options.max_boxes * BOX_NUMBERS), dtype=np.float32)
        value[:, 2:].reshape(len(block), -1, BOX_NUMBERS)[..., 4] = -1
        present = np.zeros(len(block), dtype=bool)
        for position, (cell, size) in enumerate(zip(block.cells(self.columns[0]), self._sizes(block), strict=True)):
            if cell is None:
                continue
            try:
                boxes = self._fractions(read_boxes(cell), size)
            except ValueError as error:
                block.add_error(position, self.columns[0], str(error))
                continue
            value[position, :2] = self.canvas if size is None else size
            value[position, 2 : 2 + boxes.size] = boxes.ravel()
            present[position] = True
        return value, present

    def _fractions(self, boxes: list[LabeledBox], size: Size | None) -> np.ndarray:
        """The boxes of a row, `[n, BOX_NUMBERS]`. Raises ValueError if there are too many or one cannot be used."""
        if len(boxes) > self.options.max_boxes:
            raise ValueError(
                f"{len(boxes):,} boxes; the maximum is {self.options.max_boxes:,} (increase the option `max_boxes`)"
            )
        width, height = self.canvas if size is None else size
        found = np.zeros((len(boxes), BOX_NUMBERS), np.float32)
        for number, box in enumerate(boxes):
            box = clip_to_picture(box, (width, height))
            ends = (box.x / width, box.y / height, (box.x + box.width) / width, (box.y + box.height) / height)
            found[number] = (*ends, self.labels.index(box.label), box.is_crowd)
        return found

    def collate(self, value: np.ndarray) -> Tensor:
        """The prepared targets without the numbers of boxes that no row of the batch has."""
        labels = value[:, 2:].reshape(len(value), self.options.max_boxes, BOX_NUMBERS)[..., 4]
        most = max(1, int((labels >= 0).sum(1).max(initial=0)))
        return torch.from_numpy(value[:, : 2 + most * BOX_NUMBERS])

    @property
    def num_values(self) -> int:
        """Number of values that the decoder predicts."""
        grid = self.box_grid
        return grid.rows * grid.columns * (grid.labels + 4)

    @property
    def output_size(self) -> int:
        """The values of the decoder, followed by the width and height of the picture if there is an image input."""
        return self.num_values + 2 * (self.options.image is not None)

    @property
    def output_shape(self) -> OutputShape:
        return OutputShape(self.num_values, self.space, boxes=self.box_grid)

    @property
    def threshold(self) -> float:
        return self.options.threshold

    @property
    def has_probabilities(self) -> bool:
        return False

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        true = target[:, 2:].reshape(len(target), -1, BOX_NUMBERS)
        labels = torch.where(true[..., 5] > 0, -1.0, true[..., 4])  # a crowd is no object
        losses = row_losses(values[:, : self.num_values], true[..., :4], labels, self.box_grid)
        return losses / self.constants.cells_per_row

    def baseline_loss(self) -> float:
        """The entropy of the mean of each cell and label, and the loss of the boxes for the mean box."""
        mean = np.stack([self.constants.mean_cells, 1 - self.constants.mean_cells])
        entropy = -(mean * np.log(np.where(mean > 0, mean, 1.0))).sum()
        return float(entropy + self.constants.box_loss) / self.constants.cells_per_row

    def baseline_prediction(self) -> np.ndarray:
        grid = self.box_grid
        cells = self.constants.mean_cells.reshape(-1, grid.labels)
        box = np.broadcast_to(np.array([0.0, 0.0, *self.constants.mean_box]), (len(cells), 4))
        sizes = self.canvas if self.options.image is not None else ()
        return np.concatenate([np.concatenate([cells, box], axis=1).ravel(), sizes])

    def distribution(self, values: Tensor) -> np.ndarray:
        """Probabilities of labels, then the four numbers of the box, of each cell; then the size of the picture."""
        found = values.detach().double().cpu().numpy()
        return self._with_logits(found, expit)

    def raw_values(self, distribution: np.ndarray) -> Tensor:
        """The inverse of `distribution`, fp32."""
        return torch.from_numpy(self._with_logits(distribution, _logit)).float()

    def _with_logits(self, values: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A copy with `change` of the numbers of labels."""
        cells, labels = self._as_cells(values), len(self.labels)
        changed = np.concatenate([change(cells[..., :labels]), cells[..., labels:]], axis=-1)
        return np.concatenate([changed.reshape(len(values), -1), values[:, self.num_values :]], axis=1)

    def with_labels_of(self, distribution: np.ndarray, reference: Task) -> np.ndarray:
        """The distribution with the labels of another task of the same grid; 0 for labels that this task does not know.

        Raises:
            DataError: the grids differ.
        """
        own, other = self.output_shape.boxes, reference.output_shape.boxes
        if own is None or other is None or own[:2] != other[:2]:
            raise DataError(
                f"grids of {own and own.rows} and {other and other.rows} cells cannot be compared; set the option "
                "`cells` of both models alike",
                column=self.columns[0],
            )
        cells, known = self._as_cells(distribution), {name: index for index, name in enumerate(self.classes)}
        parts = [
            cells[..., known[name], None] if name in known else np.zeros((*cells.shape[:2], 1))
            for name in reference.classes
        ]
        joined = np.concatenate([*parts, cells[..., len(self.labels) :]], axis=-1)
        return np.concatenate([joined.reshape(len(distribution), -1), distribution[:, self.num_values :]], axis=1)

    def _as_cells(self, values: np.ndarray) -> np.ndarray:
        """`[rows, k]` -> `[rows, cells, labels + 4]`."""
        return values[:, : self.num_values].reshape(len(values), -1, len(self.labels) + 4)

    def detect(self, distribution: np.ndarray, sizes: np.ndarray, min_score: float) -> Detections:
        """The predicted boxes in pixels of pictures of `sizes [rows, 2]`, inside them."""
        cells, labels = self._as_cells(distribution), len(self.labels)
        fractions = corners(torch.from_numpy(np.nan_to_num(cells[..., labels:])), self.box_grid).numpy()
        pixels = np.clip(fractions, 0, 1) * np.concatenate([sizes, sizes], axis=1)[:, None]
        has_area = ((pixels[..., 2:] - pixels[..., :2]) > 1e-6).all(-1, keepdims=True)
        return detect(
            np.where(has_area, np.nan_to_num(cells[..., :labels]), 0.0),
            pixels,
            min_score=min_score,
            max_overlap=self.options.max_overlap,
            most=self.options.max_boxes,
        )

    def predict(self, distribution: np.ndarray) -> list[Any]:
        sizes = distribution[:, self.num_values :]
        if self.options.image is None:
            sizes = np.broadcast_to(self.canvas, (len(distribution), 2))
        return self._box_lists(self.detect(distribution, sizes, self.threshold), len(distribution), scored=True)

    def truth(self, value: np.ndarray) -> np.ndarray:
        return value

    def boxes(self, truth: np.ndarray) -> list[list[dict[str, Any]]]:
        """True boxes of prepared targets `[rows, ...]`, in the format of predictions without scores."""
        found = self._true_boxes(truth)
        ends = np.concatenate([found.box[:, :2], found.box[:, :2] + found.box[:, 2:]], axis=1)
        return self._box_lists(Detections(found.row, found.label, found.score, ends), len(truth), scored=False)

    def _box_lists(self, found: Detections, rows: int, *, scored: bool) -> list[list[dict[str, Any]]]:
        lists: list[list[dict[str, Any]]] = [[] for _ in range(rows)]
        columns = (found.row.tolist(), found.label.tolist(), found.score.tolist(), found.box.tolist())
        for row, label, score, (left, top, right, bottom) in zip(*columns, strict=True):
            box = {
                "x": round(left, 2),
                "y": round(top, 2),
                "width": round(right - left, 2),
                "height": round(bottom - top, 2),
                "label": self.labels.values[label],
            }
            lists[row].append(box | {"score": round(score, 6)} if scored else box)
        return lists

    def _true_boxes(self, truth: np.ndarray) -> BoxList:
        true = truth[:, 2:].reshape(len(truth), -1, BOX_NUMBERS).astype(np.float64)
        row, number = np.nonzero(true[..., 4] >= 0)
        found, size = true[row, number], truth[row, :2].astype(np.float64)
        corner = found[:, :2] * size
        box = np.concatenate([corner, found[:, 2:4] * size - corner], axis=1)
        return BoxList(row, found[:, 4].astype(np.int64), box, np.ones(len(row)), found[:, 5] > 0)

    def matches(
        self, distribution: np.ndarray, truth: np.ndarray, area: str = "all", min_score: float = MIN_SCORE
    ) -> list[LabelMatches]:
        """Predicted boxes matched to true boxes of an area of COCO, by label."""
        found = self.detect(distribution, truth[:, :2].astype(np.float64), min_score)
        box = np.concatenate([found.box[:, :2], found.box[:, 2:] - found.box[:, :2]], axis=1)
        predicted = BoxList(found.row, found.label, box, found.score, np.zeros(len(found.row), bool))
        return scores.match_boxes(self._true_boxes(truth), predicted, len(truth), len(self.labels), area)

    @property
    def metrics(self) -> list[Metric]:
        """Average precision at an overlap of 0.5, over all overlaps, and for each size."""
        half = partial(scores.mean_average_precision, overlap=0.5)
        found = [
            scores.box_metric("map_50", self.matches, half),
            scores.box_metric("map", self.matches, scores.mean_average_precision),
        ]
        for area in ("small", "medium", "large"):
            match = partial(self.matches, area=area)
            found.append(scores.box_metric(f"map_{area}", match, scores.mean_average_precision))
        return found

    def class_scores(self, distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> dict[str, list[float]]:
        """Precision, recall and F1 of each label at `threshold` and an overlap of 0.5, and the number of true boxes."""
        return scores.class_scores(self.matches(distribution, truth, min_score=self.threshold), weight)

    def box_counts(self, distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Boxes of each row at `threshold`: found (overlap of at least 0.5), false, and true, `[rows, 3]`."""
        return scores.row_counts(self.matches(distribution, truth, min_score=self.threshold), len(truth))

    @property
    def classes(self) -> list[str]:
        return [label_text(label) for label in self.labels.values]

    state_type = DetectionState

    def save(self) -> dict[str, Any]:
        return {
            "labels": self.labels.values,
            "canvas": list(self.canvas),
            "cells_per_row": self.constants.cells_per_row,
            "box_loss": self.constants.box_loss,
            "mean_box": list(self.constants.mean_box),
            "mean_cells": self.constants.mean_cells.tolist(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.labels, self.canvas = LabelVocabulary(state["labels"]), tuple(state["canvas"])
        self.constants = BoxConstants(
            state["cells_per_row"], np.array(state["mean_cells"]), tuple(state["mean_box"]), state["box_loss"]
        )


def _logit(probability: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(probability, TINY, 1 - TINY)))
