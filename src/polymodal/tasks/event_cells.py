"""Table cells that hold events in time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from polymodal.tasks.labels import Label, label_key, read_label

#: Start and end in seconds, and the label.
EventSpan = tuple[float, float, Label]


def read_event_spans(cell: Any) -> list[EventSpan]:
    """The events of one cell, ordered by start.

    Raises:
        ValueError: they cannot be read; the message is the reason for a fault report.
    """
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            raise ValueError("expected a list of events, or such a list as JSON text") from None
    if not isinstance(cell, list | tuple | np.ndarray):
        raise ValueError(f"expected a list of events, not {type(cell).__name__}")
    return sorted((_read_span(event) for event in cell), key=lambda span: span[:2])


def _read_span(event: Any) -> EventSpan:
    if not isinstance(event, Mapping):
        raise ValueError(f"an event must have start, end and label; this is {str(event)[:50]!r}")
    missing = [name for name in ("start", "end", "label") if event.get(name) is None]
    if missing:
        raise ValueError(f"an event has no {missing[0]}")
    times = []
    for name in ("start", "end"):
        time = event[name]
        if isinstance(time, bool) or not isinstance(time, int | float | np.integer | np.floating):
            raise ValueError(f"the {name} of an event must be a number of seconds, not {time!r}")
        if not math.isfinite(time) or time < 0:
            raise ValueError(f"an event cannot {name} at {time} s")
        times.append(float(time))
    if times[1] <= times[0]:
        raise ValueError(f"an event ends at {times[1]:g} s, not after its start at {times[0]:g} s")
    return times[0], times[1], read_label(event["label"])


def silences_between(rows: list[list[EventSpan]]) -> list[float]:
    """Seconds between events of one label that follow each other in a row."""
    gaps = []
    for spans in rows:
        until: dict[tuple[bool, Label], float] = {}
        for start, end, label in spans:
            before = until.get(label_key(label), math.inf)
            if before < start:
                gaps.append(start - before)
            until[label_key(label)] = max(end, until.get(label_key(label), 0.0))
    return gaps
