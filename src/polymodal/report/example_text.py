"""Texts about one example for all tasks: the truth, the prediction and the error."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from polymodal.core.formatting import count_noun, truncate
from polymodal.tasks.base import Task
from polymodal.tasks.conversation import read_history
from polymodal.tasks.event_detection import EventDetectionTask
from polymodal.tasks.object_detection import ObjectDetectionTask

#: The truth of a row whose class the task does not know.
UNKNOWN_CLASS = "a class that training did not see"


def describe_truth(task: Task, truth: Any) -> str:
    """The true value of one row; `truth` as in `Task.truth`."""
    if task.space == "categorical":
        return truncate(task.classes[int(truth)]) if truth < len(task.classes) else UNKNOWN_CLASS
    if task.space == "image":
        return "an image"
    if task.space == "text":
        return truncate(" / ".join(truth))
    if isinstance(task, EventDetectionTask):
        return describe_events(task.events(truth[None])[0])
    if isinstance(task, ObjectDetectionTask):
        return describe_boxes(task.boxes(truth[None])[0])
    if task.space == "binary":
        return _labels([name for name, there in zip(task.classes, truth, strict=True) if there])
    return _numbers(task, truth.tolist())


def describe_prediction(task: Task, answer: Any) -> str:
    """The prediction for one row; `answer` as in `Task.predict`."""
    if task.space == "categorical":
        return truncate(answer if not isinstance(answer, bool) else str(answer).lower())
    if task.space == "image":
        return "nothing" if answer is None else "an image"
    if task.space == "text":
        return "no answer" if answer is None else truncate(answer) or "an empty text"
    if isinstance(task, EventDetectionTask):
        return describe_events(answer)
    if isinstance(task, ObjectDetectionTask):
        return describe_boxes(answer)
    if task.space == "binary":
        return _labels([str(label) for label in answer])
    return _numbers(task, answer if isinstance(answer, list) else [answer])


def describe_error(task: Task, distribution: np.ndarray, truth: Any) -> str:
    """The error of one row: probabilities of classes or labels, or the error of numbers."""
    if task.space == "categorical":
        given = distribution[int(truth)] if truth < len(distribution) else 0.0
        return f"probability {distribution.max():.1%} for the prediction, {given:.1%} for the truth"
    if task.space == "image":
        return f"root mean squared difference {_pixel_difference(distribution, truth):.0f} of 255"
    if task.space == "text":
        return _text_note(distribution, truth)
    if isinstance(task, EventDetectionTask):
        return _timeline_note(task, distribution, truth)
    if isinstance(task, ObjectDetectionTask):
        hits, false, actual = (int(one) for one in task.box_counts(distribution[None], truth[None])[0])
        return f"{hits} of {count_noun(actual, 'box', 'boxes')} found, {false} false"
    if task.space == "binary":
        named = list(zip(task.classes, distribution, truth > 0, strict=True))
        too_many = [f"{name} {p:.1%}" for name, p, there in named if p >= task.threshold and not there]
        missed = [f"{name} {p:.1%}" for name, p, there in named if p < task.threshold and there]
        parts = [("false: ", too_many), ("missed: ", missed)]
        return "; ".join(word + truncate(", ".join(labels)) for word, labels in parts if labels)
    errors = [f"{error:+.4g}" for error in distribution - truth]
    return "error " + truncate(", ".join(errors))


def describe_prompt_cell(cell: Any) -> str:
    """A cell of a prompt; a dialogue history as `role: content`."""
    try:
        turns = read_history(cell, last="assistant")
    except ValueError:
        return truncate(cell)
    if not turns:
        return "an empty history" if isinstance(cell, list) else ""
    return truncate(" · ".join(f"{turn.role}: {turn.content}" for turn in turns), 400)


def describe_events(events: list[dict[str, Any]]) -> str:
    """`dog 0.5 to 1.2 s, cat 2 to 3 s`."""
    shown = [f"{event['label']} {event['start']:.3g} to {event['end']:.3g} s" for event in events]
    return truncate(", ".join(shown)) if shown else "nothing"


def describe_boxes(boxes: list[dict[str, Any]]) -> str:
    """`cat 20 x 30 at (4, 8), dog 10 x 10 at (0, 0)`, in pixels."""
    shown = [
        f"{box['label']} {box['width']:.3g} x {box['height']:.3g} at ({box['x']:.4g}, {box['y']:.4g})" for box in boxes
    ]
    return truncate(", ".join(shown)) if shown else "nothing"


def text_errors(distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors of generated texts.

    Returns whether the text is none of its references, `[rows]` bool, and its distance from the nearest reference,
    `[rows]`: one minus the F1 of the words in common.
    """
    wrong = np.array([text not in references for text, references in zip(distribution, truth, strict=True)], dtype=bool)
    far = [
        1 - max((_overlap(text or "", reference) for reference in references), default=0.0)
        for text, references in zip(distribution, truth, strict=True)
    ]
    return wrong, np.array(far)


def event_errors(
    task: EventDetectionTask, distribution: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether any segment of a row is wrong, `[rows]` bool, and the loss of the row, `[rows]`."""
    found, true = task.segments(distribution, truth)
    kept = np.clip(distribution, 1e-12, 1 - 1e-12)
    loss = -(truth * np.log(kept) + (1 - truth) * np.log(1 - kept)).mean(1)
    return (found != true).any((1, 2)), loss


def _pixel_difference(pixels: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(((pixels - truth.astype(np.float64)) ** 2).mean()))


def _text_note(answer: Any, references: tuple[str, ...]) -> str:
    """The fraction of words in common with the nearest reference."""
    if answer in references:
        return "correct"
    common = max((_overlap(answer or "", reference) for reference in references), default=0.0)
    return f"{common:.0%} of the words in common (F1)"


def _timeline_note(task: EventDetectionTask, distribution: np.ndarray, truth: np.ndarray) -> str:
    """`2 of 3 events detected, 1 false`: by start and end, as in the event scores."""
    counts = task.event_counts(distribution[None], truth[None])
    hits, found, actual = (int(one.sum()) for one in (counts.true_positives, counts.predicted, counts.support))
    return f"{hits} of {count_noun(actual, 'event')} detected, {found - hits} false"


def _labels(labels: list[str]) -> str:
    return truncate(", ".join(labels)) if labels else "no label"


def _numbers(task: Task, numbers: list[float]) -> str:
    if len(numbers) == 1:
        return truncate(float(numbers[0]))
    return truncate(
        ", ".join(f"{name} {truncate(float(number))}" for name, number in zip(task.columns, numbers, strict=True))
    )


def _overlap(text: str, reference: str) -> float:
    """F1 of the words of two texts."""
    generated, expected = Counter(text.split()), Counter(reference.split())
    common = (generated & expected).total()
    return 2 * common / max(1, generated.total() + expected.total())
