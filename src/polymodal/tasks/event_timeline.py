"""Between events and the cells of a timeline: shares of cells that events cover, and events read back from them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

from polymodal.metrics.events import Events

#: Part of a cell below which a share counts as empty, or as full.
ROUNDING = 1e-4


def event_coverage(start: np.ndarray, end: np.ndarray, label: np.ndarray, frames: int, labels: int, width: float) -> np.ndarray:
    """The share of each cell that the events of one row cover, `[frames, labels]` float32.

    start, end: `[events]` seconds; label: `[events]` numbers; width: seconds of a cell. Events of one label that
    overlap count once: they become one event.
    """
    shares = np.zeros((frames, labels), np.float32)
    edges = np.arange(frames + 1.0)
    for number in np.unique(label):
        own = label == number
        spans = _union(start[own] / width, end[own] / width)
        covered = [np.clip(edges, first, last) for first, last in spans]
        shares[:, number] = sum(one[1:] - one[:-1] for one in covered)
    return shares


def _union(start: np.ndarray, end: np.ndarray) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for first, last in sorted(zip(start.tolist(), end.tolist(), strict=True)):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged


def events_from_coverage(shares: np.ndarray, width: float) -> Events:
    """The events behind exact shares `[rows, frames, labels]`.

    A cell that is covered in part holds a start or an end: which, its neighbours tell. So events come back exactly
    (to a ten-thousandth of a cell) if they are longer than a cell and more than a cell apart from the next of their
    label. What lies inside one cell is put in its middle: a short event as much as a gap between two events.
    """
    series = _by_series(shares)
    there = series > ROUNDING
    full = series >= 1 - ROUNDING
    part = there & ~full
    before = np.pad(full, ((0, 0), (1, 0)))[:, :-1]
    frames = np.arange(series.shape[1])
    run_start = np.maximum.accumulate(np.where(part, -1, frames), axis=1) + 1  # first of a run of partial cells
    odd = (frames - run_start) % 2 == 1
    enters = np.take_along_axis(before, np.minimum(run_start, len(frames) - 1), axis=1)
    # An event runs on from the cell before: always into a full cell; partial cells that follow each other are the end
    # of one event and the start of the next in turn.
    occupied_before = np.pad(there, ((0, 0), (1, 0)))[:, :-1]
    joined = np.where(full, occupied_before, part & (enters ^ odd))
    follows = np.pad(joined, ((0, 0), (0, 1)))[:, 1:]
    inner = part & joined & follows
    begins, ends = (there & ~joined) | inner, (there & ~follows) | inner
    half = series / 2
    start = np.where(inner, frames + 1 - half, np.where(follows, frames + 1 - series, frames + 0.5 - half))
    end = np.where(inner, frames + half, np.where(joined, frames + series, frames + 0.5 + half))
    which, _ = np.nonzero(begins)
    return _events(which, start[begins], end[ends], np.ones(len(which)), shares.shape[2], width)


def decode_events(
    probability: np.ndarray, width: float, *, threshold: float, smooth: float, gap: float, shortest: float
) -> Events:
    """Events from the probabilities of cells, `[rows, frames, labels]`.

    An event is a run of cells of at least `threshold`, after a median filter of `smooth` seconds. Its ends lie
    inside cells: the probability of a cell at an end is read as the share that the event covers, so exact shares give
    the exact ends of events that are two cells apart. Then events of one label with less than `gap` seconds between
    them are merged, and those of less than `shortest` seconds are dropped. The score of an event is the mean
    probability of its cells.
    """
    series = _by_series(probability)
    frames = series.shape[1]
    reach = round(smooth / width / 2)
    if reach:
        series = median_filter(series, size=(1, 2 * reach + 1), mode="nearest")
    active = np.pad(series >= threshold, ((0, 0), (2, 2)))
    which, first = np.nonzero(active[:, 2:-2] & ~active[:, 1:-3])
    _, last = np.nonzero(active[:, 2:-2] & ~active[:, 3:-1])
    padded = np.pad(series, ((0, 0), (1, 1)))
    # what the cells beside the run add; a cell between two runs is shared by both
    left = padded[which, first] / (1 + active[which, first])
    right = padded[which, last + 2] / (1 + active[which, last + 4])
    at_first, at_last = series[which, first], series[which, last]
    single, beside = first == last, left + right
    leaning = np.divide(right, beside, out=np.full(len(left), 0.5), where=beside > 0)
    start = first + (1 - at_first) * np.where(single, leaning, 1.0) - left
    end = last + 1 - (1 - at_last) * np.where(single, 1 - leaning, 1.0) + right
    sums = np.pad(series.cumsum(1), ((0, 0), (1, 0)))
    score = (sums[which, last + 1] - sums[which, first]) / (last + 1 - first)
    found = _events(which, np.maximum(start, 0), np.minimum(end, frames), score, probability.shape[2], width)
    return _longer(_merged(found, gap), shortest)


def _by_series(values: np.ndarray) -> np.ndarray:
    """`[rows, frames, labels]` -> `[rows * labels, frames]`."""
    return values.transpose(0, 2, 1).reshape(-1, values.shape[1]).astype(np.float64)


def _events(
    series: np.ndarray, start: np.ndarray, end: np.ndarray, score: np.ndarray, labels: int, width: float
) -> Events:
    return Events(series // labels, series % labels, start * width, end * width, score)


def _merged(events: Events, gap: float) -> Events:
    if len(events) == 0:
        return events
    same = (events.row[1:] == events.row[:-1]) & (events.label[1:] == events.label[:-1])
    near = same & (events.start[1:] - events.end[:-1] < gap)
    first = np.flatnonzero(np.concatenate([[True], ~near]))
    last = np.append(first[1:] - 1, len(events) - 1)
    duration = events.end - events.start
    score = np.add.reduceat(events.score * duration, first) / np.add.reduceat(duration, first)
    return Events(events.row[first], events.label[first], events.start[first], events.end[last], score)


def _longer(events: Events, shortest: float) -> Events:
    kept = events.end - events.start >= max(shortest, 1e-9)
    return Events(events.row[kept], events.label[kept], events.start[kept], events.end[kept], events.score[kept])
