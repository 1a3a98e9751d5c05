"""Scores of events in time: found spans against true ones, segment by segment and event by event.

Everything is counted once for each row; a score is then a function of the rows' weights, so that a bootstrap of a
thousand resamples counts nothing again. Rows of weight 0 do not exist. A score without any event is NaN.

Source: Mesaros, Heittola and Virtanen, "Metrics for Polyphonic Sound Event Detection", Applied Sciences, 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy.optimize import linear_sum_assignment

#: Share of a segment below which its overlap with an event is rounding, not activity.
ROUNDING = 1e-3
#: How far the start of a found event may lie from the true start, in seconds (Mesaros et al., section 4.2).
COLLAR = 0.2
#: The end may lie this share of the true event's duration away, or COLLAR, whichever is more.
END_COLLAR = 0.2


@dataclass(frozen=True)
class Events:
    """Events of many rows, `[n]` each, ordered by row, label and start. Times in seconds; events of one label in one
    row do not overlap."""

    row: np.ndarray
    label: np.ndarray
    start: np.ndarray
    end: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class SegmentCounts:
    """Segments in which a label was found and is true (`true_positives`), was `found`, is true (`actual`): `[rows, labels]`.

    substituted, deleted, inserted: `[rows]`, the errors of the segments, where a label missed and one wrongly found
    in the same segment are one substitution
    """

    true_positives: np.ndarray
    predicted: np.ndarray
    support: np.ndarray
    substituted: np.ndarray
    deleted: np.ndarray
    inserted: np.ndarray


@dataclass(frozen=True)
class EventCounts:
    """True events that were found (`true_positives`), `found` events and true ones (`actual`): `[rows, labels]`."""

    true_positives: np.ndarray
    predicted: np.ndarray
    support: np.ndarray


def activity(events: Events, rows: int, labels: int, segments: int, length: float) -> np.ndarray:
    """Whether each label is active in each segment of `length` seconds, `[rows, segments, labels]` bool.

    A segment is active if an event lies in any part of it (parts below a thousandth of a segment are rounding).
    """
    changes = np.zeros((rows * labels, segments + 1), np.int32)
    series = events.row * labels + events.label
    first = np.clip(np.floor(events.start / length + ROUNDING), 0, segments - 1).astype(np.int64)
    after = np.clip(np.ceil(events.end / length - ROUNDING), first + 1, segments).astype(np.int64)
    np.add.at(changes, (series, first), 1)
    np.add.at(changes, (series, after), -1)
    active = changes[:, :-1].cumsum(1) > 0
    return active.reshape(rows, labels, segments).transpose(0, 2, 1)


def segment_counts(truth: np.ndarray, found: np.ndarray) -> SegmentCounts:
    """Count activities `[rows, segments, labels]` bool, true and found ones."""
    missed, wrong = (truth & ~found).sum(2), (found & ~truth).sum(2)
    return SegmentCounts(
        true_positives=(truth & found).sum(1).astype(np.float64),
        predicted=found.sum(1).astype(np.float64),
        support=truth.sum(1).astype(np.float64),
        substituted=np.minimum(missed, wrong).sum(1).astype(np.float64),
        deleted=np.maximum(0, missed - wrong).sum(1).astype(np.float64),
        inserted=np.maximum(0, wrong - missed).sum(1).astype(np.float64),
    )


def event_counts(
    truth: Events, found: Events, rows: int, labels: int, collar: float = COLLAR, share: float = END_COLLAR
) -> EventCounts:
    """Match found events to true ones of the same row and label, at most one to one and as many as can be.

    Two events match if their starts are at most `collar` seconds apart, and their ends at most `collar` seconds or
    `share` of the true event's duration, whichever is more.
    """
    true_positives = np.zeros(rows * labels)
    true_series, found_series = (one.row * labels + one.label for one in (truth, found))
    for series in np.intersect1d(true_series, found_series):
        real = slice(*np.searchsorted(true_series, [series, series + 1]))
        given = slice(*np.searchsorted(found_series, [series, series + 1]))
        near = np.abs(truth.start[real, None] - found.start[None, given]) <= collar + 1e-6
        allowed = np.maximum(collar, share * (truth.end - truth.start)[real])
        near &= np.abs(truth.end[real, None] - found.end[None, given]) <= allowed[:, None] + 1e-6
        true_positives[series] = near[linear_sum_assignment(near, maximize=True)].sum()
    shape = (rows, labels)
    return EventCounts(
        true_positives.reshape(shape),
        np.bincount(found_series, minlength=rows * labels).reshape(shape).astype(np.float64),
        np.bincount(true_series, minlength=rows * labels).reshape(shape).astype(np.float64),
    )


def f1_micro(counts: SegmentCounts | EventCounts, weight: np.ndarray) -> float:
    """F1 = 2 true_positives / (found + actual) over all labels together; `weight [rows]`."""
    true_positives, both = weight @ counts.true_positives.sum(1), weight @ (counts.predicted + counts.support).sum(1)
    return float(2 * true_positives / both) if both > 0 else float("nan")


def f1_macro(counts: SegmentCounts | EventCounts, weight: np.ndarray) -> float:
    """The mean of F1 over the labels that occur or are found; `weight [rows]`."""
    true_positives, both = weight @ counts.true_positives, weight @ (counts.predicted + counts.support)
    known = both > 0
    return float((2 * true_positives[known] / both[known]).mean()) if known.any() else float("nan")


def error_rate(counts: SegmentCounts, weight: np.ndarray) -> float:
    """ER = (S + D + I) / N: substitutions, deletions and insertions by the number of true activities.

    0 is perfect; finding nothing at all scores 1, and finding too much may score more. `weight [rows]`.
    """
    support = weight @ counts.support.sum(1)
    errors = weight @ reduce(np.add, [counts.substituted, counts.deleted, counts.inserted])
    return float(errors / support) if support > 0 else float("nan")
