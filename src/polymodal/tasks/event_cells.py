"""Table cells with lists of events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from polymodal.core.yaml_json import TextFormatError, read_json
from polymodal.tasks.labels import Label, label_key, read_label

#: Start and end in seconds, and label.
EventSpan = tuple[float, float, Label]


def read_event_spans(cell: Any) -> list[EventSpan]:
    """Read the events of a cell, ordered by start.

    Raises:
        ValueError: they cannot be read; the message is the reason of the cell error.
    """
    if isinstance(cell, str):
        try:
            cell = read_json(cell)
        except TextFormatError as error:
            raise ValueError(f"expected a list of events, or such a list as JSON text ({error})") from None
    if not isinstance(cell, list | tuple | np.ndarray):
        raise ValueError(f"expected a list of events, not {type(cell).__name__}")
    return sorted((_read_event(event) for event in cell), key=lambda event: event[:2])


def _read_event(event: Any) -> EventSpan:
    if not isinstance(event, Mapping):
        raise ValueError(f"an event must have start, end and label, not {str(event)[:50]!r}")
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
    """Seconds between consecutive events of one label in a row."""
    gaps = []
    for events in rows:
        ends: dict[tuple[bool, Label], float] = {}
        for start, end, label in events:
            previous_end = ends.get(label_key(label), math.inf)
            if previous_end < start:
                gaps.append(start - previous_end)
            ends[label_key(label)] = max(end, ends.get(label_key(label), 0.0))
    return gaps
