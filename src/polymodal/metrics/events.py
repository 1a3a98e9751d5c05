"""Event detection metrics: predicted against true events, segment-based and event-based.

Everything is counted once for each row. A score is then a function of the weights of the rows, so that a bootstrap does
not count again. Rows of weight 0 are ignored. A score without any event is NaN.

Source: Mesaros, Heittola and Virtanen, "Metrics for Polyphonic Sound Event Detection", Applied Sciences, 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

#: Fraction of a segment below which an overlap with an event is a rounding error.
ROUNDING = 1e-3
#: Tolerance of the start of a predicted event, in seconds (Mesaros et al., section 4.2).
COLLAR = 0.2
#: Tolerance of the end as a fraction of the true duration, if larger than COLLAR.
END_COLLAR = 0.2


@dataclass(frozen=True)
class Events:
    """Events of many rows, `[n]` each, ordered by row, label and start. Times are in seconds. Events of one label in
    one row do not overlap."""

    row: np.ndarray
    label: np.ndarray
    start: np.ndarray
    end: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class SegmentCounts:
    """Number of segments with a predicted and true label (`true_positives`), a `predicted` one, and a true one
    (`support`): `[rows, labels]`.

    substituted, deleted, inserted: `[rows]`, errors of the segments. A missed and a wrongly predicted label in the
        same segment are one substitution
    """

    true_positives: np.ndarray
    predicted: np.ndarray
    support: np.ndarray
    substituted: np.ndarray
    deleted: np.ndarray
    inserted: np.ndarray


@dataclass(frozen=True)
class EventCounts:
    """Number of matched events (`true_positives`), of `predicted` and of true events (`support`): `[rows, labels]`."""

    true_positives: np.ndarray
    predicted: np.ndarray
    support: np.ndarray


def activity(events: Events, rows: int, labels: int, segments: int, length: float) -> np.ndarray:
    """Activity of each label in each segment of `length` seconds, `[rows, segments, labels]` bool.

    A segment is active if an event overlaps it (overlaps below a thousandth of a segment are rounding errors).
    """
    changes = np.zeros((rows * labels, segments + 1), np.int32)
    series = events.row * labels + events.label
    first = np.clip(np.floor(events.start / length + ROUNDING), 0, segments - 1).astype(np.int64)
    after = np.clip(np.ceil(events.end / length - ROUNDING), first + 1, segments).astype(np.int64)
    np.add.at(changes, (series, first), 1)
    np.add.at(changes, (series, after), -1)
    active = changes[:, :-1].cumsum(1) > 0
    return active.reshape(rows, labels, segments).transpose(0, 2, 1)


def segment_counts(truth: np.ndarray, predicted: np.ndarray) -> SegmentCounts:
    """Counts from true and predicted activity `[rows, segments, labels]` bool."""
    missed, wrong = (truth & ~predicted).sum(2), (predicted & ~truth).sum(2)
    return SegmentCounts(
        true_positives=(truth & predicted).sum(1).astype(np.float64),
        predicted=predicted.sum(1).astype(np.float64),
        support=truth.sum(1).astype(np.float64),
        substituted=np.minimum(missed, wrong).sum(1).astype(np.float64),
        deleted=np.maximum(0, missed - wrong).sum(1).astype(np.float64),
        inserted=np.maximum(0, wrong - missed).sum(1).astype(np.float64),
    )


def event_counts(
    truth: Events, predicted: Events, rows: int, labels: int, collar: float = COLLAR, end_collar: float = END_COLLAR
) -> EventCounts:
    """Match predicted to true events of the same row and label, one to one, with the maximum number of matches.

    Two events match if their starts differ by at most `collar` seconds, and their ends by at most `collar` seconds or
    the fraction `end_collar` of the true duration, whichever is more.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and not needed for predictions

    true_positives = np.zeros(rows * labels)
    true_series, predicted_series = (one.row * labels + one.label for one in (truth, predicted))
    for series in np.intersect1d(true_series, predicted_series):
        actual = slice(*np.searchsorted(true_series, [series, series + 1]))
        candidates = slice(*np.searchsorted(predicted_series, [series, series + 1]))
        near = np.abs(truth.start[actual, None] - predicted.start[None, candidates]) <= collar + 1e-6
        allowed = np.maximum(collar, end_collar * (truth.end - truth.start)[actual])
        near &= np.abs(truth.end[actual, None] - predicted.end[None, candidates]) <= allowed[:, None] + 1e-6
        true_positives[series] = near[linear_sum_assignment(near, maximize=True)].sum()
    shape = (rows, labels)
    return EventCounts(
        true_positives.reshape(shape),
        np.bincount(predicted_series, minlength=rows * labels).reshape(shape).astype(np.float64),
        np.bincount(true_series, minlength=rows * labels).reshape(shape).astype(np.float64),
    )


def f1_micro(counts: SegmentCounts | EventCounts, weight: np.ndarray) -> float:
    """F1 = 2 true positives / (predicted + support) over all labels; `weight [rows]`."""
    true_positives, both = weight @ counts.true_positives.sum(1), weight @ (counts.predicted + counts.support).sum(1)
    return float(2 * true_positives / both) if both > 0 else float("nan")


def f1_macro(counts: SegmentCounts | EventCounts, weight: np.ndarray) -> float:
    """Mean of F1 over the labels that occur or are predicted; `weight [rows]`."""
    true_positives, both = weight @ counts.true_positives, weight @ (counts.predicted + counts.support)
    known = both > 0
    return float((2 * true_positives[known] / both[known]).mean()) if known.any() else float("nan")


def error_rate(counts: SegmentCounts, weight: np.ndarray) -> float:
    """Error rate (S + D + I) / N: substitutions, deletions and insertions, divided by the number of true activities.

    0 is perfect; predicting nothing scores 1; too many predictions may score more than 1. `weight [rows]`.
    """
    support = weight @ counts.support.sum(1)
    errors = weight @ reduce(np.add, [counts.substituted, counts.deleted, counts.inserted])
    return float(errors / support) if support > 0 else float("nan")
