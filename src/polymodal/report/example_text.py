"""Examples in words: what is true, what the model said, and how wrong that is, whatever the task."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from polymodal.core.formatting import count_noun, truncate
from polymodal.tasks.base import Task
from polymodal.tasks.conversation import read_history
from polymodal.tasks.event_detection import Spans


def describe_truth(task: Task, truth: Any) -> str:
    """What was right for one row; `truth` as in `Task.truth`."""
    if task.space == "categorical":
        return truncate(task.classes[int(truth)])
    if task.space == "text":
        return truncate(" / ".join(truth))
    if isinstance(task, Spans):
        return describe_events(task.events(truth[None])[0])
    if task.space == "binary":
        return _labels([name for name, there in zip(task.classes, truth, strict=True) if there])
    return _numbers(task, truth.tolist())


def describe_prediction(task: Task, answer: Any) -> str:
    """What the model said of one row; `answer` as in `Task.predict`."""
    if task.space == "categorical":
        return truncate(answer if not isinstance(answer, bool) else str(answer).lower())
    if task.space == "text":
        return "no answer" if answer is None else truncate(answer) or "an empty text"
    if isinstance(task, Spans):
        return describe_events(answer)
    if task.space == "binary":
        return _labels([str(label) for label in answer])
    return _numbers(task, answer if isinstance(answer, list) else [answer])


def describe_error(task: Task, distribution: np.ndarray, truth: Any) -> str:
    """How wrong: probabilities of classes or labels, the error of numbers."""
    if task.space == "categorical":
        given = distribution[int(truth)]
        return f"probability {distribution.max():.1%} for the prediction, {given:.1%} for the truth"
    if task.space == "text":
        return _text_note(distribution, truth)
    if isinstance(task, Spans):
        return _timeline_note(task, distribution, truth)
    if task.space == "binary":
        named = list(zip(task.classes, distribution, truth > 0, strict=True))
        too_many = [f"{name} {p:.1%}" for name, p, there in named if p >= task.threshold and not there]
        missed = [f"{name} {p:.1%}" for name, p, there in named if p < task.threshold and there]
        parts = [("wrongly given: ", too_many), ("missed: ", missed)]
        return "; ".join(word + truncate(", ".join(labels)) for word, labels in parts if labels)
    errors = [f"{error:+.4g}" for error in distribution - truth]
    return "error " + truncate(", ".join(errors))


def describe_prompt_cell(cell: Any) -> str:
    """A cell of a prompt; of a history, who said what."""
    try:
        turns = read_history(cell, last="assistant")
    except ValueError:
        return truncate(cell)
    if not turns:
        return "nothing was said" if isinstance(cell, list) else ""
    return truncate(" · ".join(f"{turn.role}: {turn.content}" for turn in turns), 400)


def describe_events(events: list[dict[str, Any]]) -> str:
    """`dog 0.5 to 1.2 s, cat 2 to 3 s`."""
    shown = [f"{event['label']} {event['start']:.3g} to {event['end']:.3g} s" for event in events]
    return truncate(", ".join(shown)) if shown else "nothing"


def text_errors(distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows' text is none of its references, `[rows]` bool, and how far it is from the nearest, `[rows]`: one
    minus the share of words that they have in common (F1)."""
    wrong = np.array([text not in references for text, references in zip(distribution, truth, strict=True)], dtype=bool)
    far = [
        1 - max((_overlap(text or "", reference) for reference in references), default=0.0)
        for text, references in zip(distribution, truth, strict=True)
    ]
    return wrong, np.array(far)


def event_errors(task: Spans, distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By row `[rows]`: whether any segment is wrong, and how wrong the row is (its loss)."""
    found, true = task.segments(distribution, truth)
    kept = np.clip(distribution, 1e-12, 1 - 1e-12)
    loss = -(truth * np.log(kept) + (1 - truth) * np.log(1 - kept)).mean(1)
    return (found != true).any((1, 2)), loss


def _text_note(answer: Any, references: tuple[str, ...]) -> str:
    """How many words the answer shares with the nearest reference."""
    if answer in references:
        return "as it should be"
    share = max((_overlap(answer or "", reference) for reference in references), default=0.0)
    return f"{share:.0%} of the words in common (F1)"


def _timeline_note(task: Spans, distribution: np.ndarray, truth: np.ndarray) -> str:
    """`2 of 3 events found, 1 wrongly`: by start and end, as the event scores count."""
    counts = task.event_counts(distribution[None], truth[None])
    hits, found, actual = (int(one.sum()) for one in (counts.true_positives, counts.predicted, counts.support))
    return f"{hits} of {count_noun(actual, 'event')} found in time, {found - hits} found that did not happen so"


def _labels(labels: list[str]) -> str:
    return truncate(", ".join(labels)) if labels else "no label"


def _numbers(task: Task, numbers: list[float]) -> str:
    if len(numbers) == 1:
        return truncate(float(numbers[0]))
    return truncate(
        ", ".join(f"{name} {truncate(float(number))}" for name, number in zip(task.columns, numbers, strict=True))
    )


def _overlap(text: str, reference: str) -> float:
    describe_prompt_cell, wanted = Counter(text.split()), Counter(reference.split())
    common = (describe_prompt_cell & wanted).total()
    return 2 * common / max(1, describe_prompt_cell.total() + wanted.total())
