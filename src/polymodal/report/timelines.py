"""Rows of a timeline in words: which events happened, which were found."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.core.formatting import count, cut
from polymodal.tasks.spans import Spans


def wrongness(task: Spans, distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By row `[rows]`: whether any segment is wrong, and how wrong the row is (its loss)."""
    found, true = task.segments(distribution, truth)
    kept = np.clip(distribution, 1e-12, 1 - 1e-12)
    loss = -(truth * np.log(kept) + (1 - truth) * np.log(1 - kept)).mean(1)
    return (found != true).any((1, 2)), loss


def events_text(events: list[dict[str, Any]]) -> str:
    """`dog 0.5 to 1.2 s, cat 2 to 3 s`."""
    shown = [f"{event['label']} {event['start']:.3g} to {event['end']:.3g} s" for event in events]
    return cut(", ".join(shown)) if shown else "nothing"


def truth_text(task: Spans, truth: np.ndarray) -> str:
    return events_text(task.events(truth[None])[0])


def note(task: Spans, distribution: np.ndarray, truth: np.ndarray) -> str:
    """`2 of 3 events found, 1 wrongly`: by start and end, as the event scores count."""
    counts = task.event_counts(distribution[None], truth[None])
    hits, found, actual = (int(one.sum()) for one in (counts.hits, counts.found, counts.actual))
    return f"{hits} of {count(actual, 'event')} found in time, {found - hits} found that did not happen so"
