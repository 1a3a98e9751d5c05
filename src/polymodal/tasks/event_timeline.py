"""Conversion between events and the cells of a timeline: coverage of cells by events, and events from coverage."""

from __future__ import annotations

import numpy as np

from polymodal.metrics.events import Events

#: Fraction of a cell below which a coverage counts as 0, or above one minus it as 1.
ROUNDING = 1e-4


def event_coverage(
    start: np.ndarray, end: np.ndarray, label: np.ndarray, frames: int, labels: int, width: float
) -> np.ndarray:
    """Fraction of each cell that the events of one row cover, `[frames, labels]` float32.

    start, end: `[events]` seconds; label: `[events]` indices; width: seconds per cell. Overlapping events of one label
    become one event.
    """
    coverage = np.zeros((frames, labels), np.float32)
    edges = np.arange(frames + 1.0)
    for index in np.unique(label):
        of_label = label == index
        intervals = _union(start[of_label] / width, end[of_label] / width)
        clipped = [np.clip(edges, first, last) for first, last in intervals]
        coverage[:, index] = sum(positions[1:] - positions[:-1] for positions in clipped)
    return coverage


def _union(start: np.ndarray, end: np.ndarray) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for first, last in sorted(zip(start.tolist(), end.tolist(), strict=True)):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged


def events_from_coverage(coverage: np.ndarray, width: float) -> Events:
    """Events of an exact coverage `[rows, frames, labels]`.

    A partially covered cell holds a start or an end, depending on its neighbors. Events are recovered exactly (to 1e-4
    of a cell) if they are longer than a cell and more than a cell apart from the next event of their label. An event or
    a gap within one cell is placed at the center of the cell.
    """
    series = _rows_by_label(coverage)
    there = series > ROUNDING
    full = series >= 1 - ROUNDING
    partial = there & ~full
    before = np.pad(full, ((0, 0), (1, 0)))[:, :-1]
    frames = np.arange(series.shape[1])
    run_start = np.maximum.accumulate(np.where(partial, -1, frames), axis=1) + 1  # first cell of a run of partial cells
    odd = (frames - run_start) % 2 == 1
    enters = np.take_along_axis(before, np.minimum(run_start, len(frames) - 1), axis=1)
    # Whether the event of the previous cell continues: always into a full cell. Consecutive partial cells are
    # alternately the end of one event and the start of the next.
    occupied_before = np.pad(there, ((0, 0), (1, 0)))[:, :-1]
    continues = np.where(full, occupied_before, partial & (enters ^ odd))
    follows = np.pad(continues, ((0, 0), (0, 1)))[:, 1:]
    inner = partial & continues & follows
    begins, ends = (there & ~continues) | inner, (there & ~follows) | inner
    half = series / 2
    start = np.where(inner, frames + 1 - half, np.where(follows, frames + 1 - series, frames + 0.5 - half))
    end = np.where(inner, frames + half, np.where(continues, frames + series, frames + 0.5 + half))
    which, _ = np.nonzero(begins)
    return _events(which, start[begins], end[ends], np.ones(len(which)), coverage.shape[2], width)


def decode_events(
    probability: np.ndarray,
    width: float,
    *,
    threshold: float,
    median_filter_seconds: float,
    min_gap_seconds: float,
    min_event_seconds: float,
) -> Events:
    """Decode events from the probabilities of cells, `[rows, frames, labels]`.

    An event is a run of cells with at least the probability `threshold`, after a median filter of
    `median_filter_seconds`. Its ends lie inside cells: the probability of a cell at an end is read as its covered
    fraction, so that an exact coverage yields the exact ends of events that are two cells apart. Then events of one
    label with less than `min_gap_seconds` between them are merged, and events shorter than `min_event_seconds` are
    dropped. The score of an event is the mean probability of its cells.
    """
    series = _rows_by_label(probability)
    frames = series.shape[1]
    half_width = round(median_filter_seconds / width / 2)
    if half_width:
        from scipy.ndimage import median_filter  # slow to import

        series = median_filter(series, size=(1, 2 * half_width + 1), mode="nearest")
    active = np.pad(series >= threshold, ((0, 0), (2, 2)))
    which, first = np.nonzero(active[:, 2:-2] & ~active[:, 1:-3])
    _, last = np.nonzero(active[:, 2:-2] & ~active[:, 3:-1])
    padded = np.pad(series, ((0, 0), (1, 1)))
    # contribution of the cells next to the run; a cell between two runs is split between both
    left = padded[which, first] / (1 + active[which, first])
    right = padded[which, last + 2] / (1 + active[which, last + 4])
    at_first, at_last = series[which, first], series[which, last]
    single, neighbors = first == last, left + right
    right_fraction = np.divide(right, neighbors, out=np.full(len(left), 0.5), where=neighbors > 0)
    start = first + (1 - at_first) * np.where(single, right_fraction, 1.0) - left
    end = last + 1 - (1 - at_last) * np.where(single, 1 - right_fraction, 1.0) + right
    sums = np.pad(series.cumsum(1), ((0, 0), (1, 0)))
    score = (sums[which, last + 1] - sums[which, first]) / (last + 1 - first)
    events = _events(which, np.maximum(start, 0), np.minimum(end, frames), score, probability.shape[2], width)
    return _drop_short(_merge_close(events, min_gap_seconds), min_event_seconds)


def _rows_by_label(values: np.ndarray) -> np.ndarray:
    """`[rows, frames, labels]` -> `[rows * labels, frames]`."""
    return values.transpose(0, 2, 1).reshape(-1, values.shape[1]).astype(np.float64)


def _events(
    series: np.ndarray, start: np.ndarray, end: np.ndarray, score: np.ndarray, labels: int, width: float
) -> Events:
    return Events(series // labels, series % labels, start * width, end * width, score)


def _merge_close(events: Events, min_gap_seconds: float) -> Events:
    if len(events) == 0:
        return events
    same = (events.row[1:] == events.row[:-1]) & (events.label[1:] == events.label[:-1])
    near = same & (events.start[1:] - events.end[:-1] < min_gap_seconds)
    first = np.flatnonzero(np.concatenate([[True], ~near]))
    last = np.append(first[1:] - 1, len(events) - 1)
    duration = events.end - events.start
    score = np.add.reduceat(events.score * duration, first) / np.add.reduceat(duration, first)
    return Events(events.row[first], events.label[first], events.start[first], events.end[last], score)


def _drop_short(events: Events, min_event_seconds: float) -> Events:
    kept = events.end - events.start >= max(min_event_seconds, 1e-9)
    return Events(events.row[kept], events.label[kept], events.start[kept], events.end[kept], events.score[kept])
