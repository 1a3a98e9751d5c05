"""Example rows of the report: the rows with the largest errors, and typical generated texts."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from polymodal.core.formatting import truncate
from polymodal.data.store.items import Items
from polymodal.experiments.score import SplitScores
from polymodal.modalities.base import Modality
from polymodal.preparation.feature_cache import FeatureItems
from polymodal.preparation.preparation import Preparation
from polymodal.report.best_rows import best_rows
from polymodal.report.box_drawing import draw_boxes
from polymodal.report.example_text import (
    describe_error,
    describe_prediction,
    describe_prompt_cell,
    describe_truth,
    event_errors,
    text_errors,
)
from polymodal.report.explanations import SignedBar
from polymodal.tasks.base import Task
from polymodal.tasks.event_detection import EventDetectionTask
from polymodal.tasks.image_generation import ImageGenerationTask
from polymodal.tasks.object_detection import ObjectDetectionTask

THUMBNAIL = 72
#: Columns shown of an input that reads many.
MAX_COLUMNS = 8


@dataclass(frozen=True)
class ExampleCell:
    """One input column of a row: its text, or its image as a data URL; both empty if the cell is missing."""

    name: str
    text: str = ""
    thumbnail: str = ""


@dataclass(frozen=True)
class Example:
    row: int
    inputs: list[ExampleCell]
    truth: str
    prediction: str
    note: str
    #: The true and the predicted image as data URLs; empty if the output is no image.
    truth_image: str = ""
    prediction_image: str = ""
    #: How much each input contributes to the prediction; empty if this is not computed.
    reasons: tuple[SignedBar, ...] = ()


def worst_examples(preparation: Preparation, scored: SplitScores, output: str, max_examples: int) -> list[Example]:
    """Up to `max_examples` wrong rows of a scored split, the largest error first."""
    split, task = scored.split, preparation.tasks[output]
    distribution = task.distribution(scored.predictions[output].values)
    value, present = (array[split.rows] for array in split.table.targets[output])
    truth, counted = task.truth(value), task.scored_rows(value, present)
    return _examples(
        preparation, scored, output, distribution, truth, worst_rows(task, distribution, truth, counted)[:max_examples]
    )


def best_examples(preparation: Preparation, scored: SplitScores, output: str, max_examples: int) -> list[Example]:
    """Up to `max_examples` rows of a scored split that are right, the surest first."""
    split, task = scored.split, preparation.tasks[output]
    distribution = task.distribution(scored.predictions[output].values)
    value, present = (array[split.rows] for array in split.table.targets[output])
    truth = task.truth(value)
    positions = best_rows(task, distribution, truth, present)[:max_examples]
    return _examples(preparation, scored, output, distribution, truth, positions)


def typical_texts(preparation: Preparation, scored: SplitScores, output: str, max_examples: int) -> list[Example]:
    """Up to `max_examples` rows of a text output, at even steps from the best text to the worst."""
    split, task = scored.split, preparation.tasks[output]
    distribution = task.distribution(scored.predictions[output].values)
    value, present = (array[split.rows] for array in split.table.targets[output])
    truth = task.truth(value)
    known = np.flatnonzero(present)
    if not len(known):
        return []
    _, far = text_errors(distribution[known], truth[known])
    order = known[np.argsort(far, kind="stable")]
    positions = order[np.unique(np.linspace(0, len(order) - 1, min(max_examples, len(order))).round().astype(np.int64))]
    return _examples(preparation, scored, output, distribution, truth, positions)


def spread_images(preparation: Preparation, scored: SplitScores, output: str, max_examples: int) -> list[Example]:
    """Up to `max_examples` rows of an image output, at even steps through the split, whatever their images are."""
    split, task = scored.split, preparation.tasks[output]
    distribution = task.distribution(scored.predictions[output].values)
    value, present = (array[split.rows] for array in split.table.targets[output])
    known = np.flatnonzero(present)
    positions = known[np.unique(np.linspace(0, len(known) - 1, min(max_examples, len(known))).round().astype(np.int64))]
    return _examples(preparation, scored, output, distribution, task.truth(value), positions)


def _examples(
    preparation: Preparation,
    scored: SplitScores,
    output: str,
    distribution: np.ndarray,
    truth: np.ndarray,
    positions: np.ndarray,
) -> list[Example]:
    """The rows at these positions of a split."""
    if not len(positions):
        return []
    split, task = scored.split, preparation.tasks[output]
    answers = task.predict(distribution[positions])
    seen = _seen(preparation, scored, output, split.rows[positions])
    if isinstance(task, ObjectDetectionTask):
        _draw(preparation, scored, task, split.rows[positions], truth[positions], answers, seen)
    return [
        Example(
            row=int(split.rows[position]),
            inputs=inputs,
            truth=describe_truth(task, truth[position]),
            prediction=describe_prediction(task, answer),
            note=describe_error(task, distribution[position], truth[position]),
            truth_image=_image_address(task, truth[position]),
            prediction_image=_image_address(task, distribution[position]),
        )
        for position, answer, inputs in zip(positions, answers, seen, strict=True)
    ]


def _image_address(task: Task, pixels: np.ndarray) -> str:
    """The pixels of an image output as a data URL; empty for other outputs and where nothing was generated."""
    if not isinstance(task, ImageGenerationTask):
        return ""
    return task.predict(pixels[None].astype(np.float64))[0] or ""


def worst_rows(task: Task, distribution: np.ndarray, truth: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Positions of the wrong rows, the largest error first.

    Classes: rows with a wrong class, by the probability of the true class. Labels: rows with a wrong label, by the
    log-likelihood of the true labels. Texts: texts that equal no reference, by the words that are missing. Events: rows
    with a wrong segment, by the loss. Boxes: rows with missed or false boxes, by their number. Numbers: by the absolute
    error in standard deviations of the truth. Embeddings and images: no rows, because a single one is neither right nor
    wrong.
    """
    if not present.any() or task.is_embedding or isinstance(task, ImageGenerationTask):
        return np.zeros(0, np.int64)
    if task.space == "categorical":
        known = truth < distribution.shape[1]
        given = np.where(known, distribution[np.arange(len(truth)), np.where(known, truth, 0)], 0.0)
        wrong, badness = distribution.argmax(1) != truth, -given
    elif task.space == "text":
        wrong, badness = text_errors(distribution, truth)
    elif isinstance(task, EventDetectionTask):
        wrong, badness = event_errors(task, distribution, truth)
    elif isinstance(task, ObjectDetectionTask):
        counts = task.box_counts(distribution, truth)
        badness = counts[:, 1] + counts[:, 2] - counts[:, 0]
        wrong = badness > 0
    elif task.space == "binary":
        given = np.where(truth > 0, distribution, 1 - distribution)
        wrong = ((distribution >= task.threshold) != (truth > 0)).any(1)
        badness = -np.log(np.maximum(given, 1e-12)).sum(1)
    else:
        scale = truth[present].std(0)
        error = np.abs(distribution - truth) / np.where(scale > 0, scale, 1.0)
        wrong, badness = (error > 0).any(1), error.mean(1)
    positions = np.flatnonzero(wrong & present)
    return positions[np.argsort(-badness[positions], kind="stable")]


def _seen(preparation: Preparation, scored: SplitScores, output: str, rows: np.ndarray) -> list[list[ExampleCell]]:
    """The cells of each row that the model reads: its inputs, and the prompt columns of this output."""
    table, prepared = scored.cells.table, scored.split.table
    found: list[list[ExampleCell]] = [[] for _ in rows]
    for name, spec in preparation.recipe.inputs.items():
        source, modality = prepared.inputs[name], preparation.modalities[name]
        if type(modality).preview is not Modality.preview and not isinstance(source.items, FeatureItems):
            for position, item in enumerate(source.index[rows]):
                found[position].append(
                    ExampleCell(name, thumbnail=thumbnail(modality, source.items, int(item)) if item >= 0 else "")
                )
            continue
        for column in spec.columns[:MAX_COLUMNS]:
            cells = table.values(column, rows)
            for position, cell in enumerate(cells.to_pylist() if isinstance(cells, pa.ChunkedArray) else cells):
                found[position].append(ExampleCell(column, "" if cell is None else truncate(cell)))
        if len(spec.columns) > MAX_COLUMNS:
            for seen in found:
                seen.append(ExampleCell(name, f"and {len(spec.columns) - MAX_COLUMNS} more columns"))
    shown = {column for spec in preparation.recipe.inputs.values() for column in spec.columns}
    for column in preparation.tasks[output].prompt_columns:
        if column not in shown:
            cells = table.values(column, rows)
            for position, cell in enumerate(cells.to_pylist() if isinstance(cells, pa.ChunkedArray) else cells):
                found[position].append(ExampleCell(column, describe_prompt_cell(cell)))
    return found


def _draw(
    preparation: Preparation,
    scored: SplitScores,
    task: ObjectDetectionTask,
    rows: np.ndarray,
    truth: np.ndarray,
    answers: list[Any],
    seen: list[list[ExampleCell]],
) -> None:
    """Add the picture of each row with its true and predicted boxes."""
    for name, spec in preparation.recipe.inputs.items():
        source, modality = scored.split.table.inputs[name], preparation.modalities[name]
        if spec.columns != [task.options.image] or isinstance(source.items, FeatureItems):
            continue
        for item, one, boxes, predicted, cells in zip(
            source.index[rows].tolist(), truth, task.boxes(truth), answers, seen, strict=True
        ):
            image = _preview(modality, source.items, item) if item >= 0 else None
            if image is not None:
                drawn = draw_boxes(image, (float(one[0]), float(one[1])), boxes, predicted)
                cells.append(ExampleCell("boxes: true white, predicted red", thumbnail=_jpeg(drawn, 2)))


def thumbnail(modality: Modality, items: Items, item: int) -> str:
    """The preview of a prepared item as a small JPEG in a data URL; empty if it has none."""
    image = _preview(modality, items, item)
    return "" if image is None else _jpeg(image)


def _preview(modality: Modality, items: Items, item: int) -> Image.Image | None:
    taken = items.take(np.array([item]))
    length = int(taken.pop("length")[0]) if "length" in taken else None
    return modality.preview(
        {name: array[0][:length] if length is not None else array[0] for name, array in taken.items()}
    )


def _jpeg(image: Image.Image, scale: int = 1) -> str:
    image.thumbnail((4 * scale * THUMBNAIL, scale * THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
