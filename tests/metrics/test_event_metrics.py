"""Scores of events in time, against counts by hand and against the reference implementation of the paper's authors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polymodal.metrics import events
from polymodal.metrics.events import Events

Rows = list[list[tuple[float, float, str]]]

# The scores below of these events are those of sed_eval 0.2.1 (segments of 1 s over 10 s a row; collar 0.2 s and 20 %).
TRUE: Rows = [
    [
        (0.94, 3.21, "a"),
        (7.12, 7.92, "a"),
        (1.31, 1.62, "b"),
        (5.75, 7.81, "b"),
        (0.45, 1.37, "c"),
        (2.75, 4.03, "c"),
        (6.63, 8.15, "c"),
    ],
    [
        (1.19, 2.86, "a"),
        (7.8, 8.58, "a"),
        (0.92, 1.32, "b"),
        (1.64, 3.07, "b"),
        (5.48, 7.8, "b"),
        (0.77, 2.16, "c"),
        (3.51, 3.84, "c"),
        (4.92, 6.75, "c"),
        (7.87, 8.98, "c"),
    ],
    [
        (1.25, 1.88, "a"),
        (3.33, 5.57, "a"),
        (0.96, 2.89, "b"),
        (3.49, 4.98, "b"),
        (7.59, 9.81, "b"),
        (0.9, 1.33, "c"),
        (3.36, 4.37, "c"),
        (5.25, 7.34, "c"),
    ],
]
FOUND: Rows = [
    [(1.11, 3.07, "a"), (7.14, 7.68, "a"), (2.71, 3.96, "b"), (5.59, 7.65, "b"), (0.39, 1.35, "c")],
    [
        (1.06, 2.86, "a"),
        (7.88, 8.58, "a"),
        (1.68, 2.73, "b"),
        (3.49, 3.98, "b"),
        (5.37, 7.83, "b"),
        (0.7, 2.2, "c"),
        (7.74, 9.03, "c"),
    ],
    [
        (1.27, 1.9, "a"),
        (3.26, 4.24, "a"),
        (1.06, 2.54, "b"),
        (3.58, 5.01, "b"),
        (7.76, 9.8, "b"),
        (0.78, 1.55, "c"),
        (3.09, 5.34, "c"),
        (5.37, 7.34, "c"),
    ],
]


def of_rows(rows: Rows) -> Events:
    table = sorted((row, "abc".index(label), start, end) for row, one in enumerate(rows) for start, end, label in one)
    columns = np.array(table, dtype=np.float64).reshape(-1, 4).T
    return Events(columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2], columns[3], np.ones(len(table)))


def by_segment(true: Rows, found: Rows, seconds: float = 10.0, length: float = 1.0) -> events.SegmentCounts:
    segments = math.ceil(seconds / length)
    truth, decided = (events.activity(of_rows(one), len(true), 3, segments, length) for one in (true, found))
    return events.segment_counts(truth, decided)


def by_event(true: Rows, found: Rows) -> events.EventCounts:
    return events.event_counts(of_rows(true), of_rows(found), len(true), 3)


def test_scores_equal_the_reference_implementation() -> None:
    weight = np.ones(3)
    counts = by_segment(TRUE, FOUND)
    sums = [
        counts.true_positives,
        counts.predicted,
        counts.support,
        counts.substituted,
        counts.deleted,
        counts.inserted,
    ]
    assert [one.sum() for one in sums] == [41, 45, 56, 3, 12, 1]
    assert events.f1_micro(counts, weight) == pytest.approx(0.8118811881188118)
    assert events.f1_macro(counts, weight) == pytest.approx(0.8255735492577597)
    assert events.error_rate(counts, weight) == pytest.approx(0.2857142857142857)
    matched = by_event(TRUE, FOUND)
    assert [one.sum() for one in (matched.true_positives, matched.predicted, matched.support)] == [13, 20, 24]
    assert events.f1_micro(matched, weight) == pytest.approx(0.5909090909090908)


def test_by_hand() -> None:
    """Truth: a in seconds 0 and 1, b in second 1. Found: a in second 0, c in seconds 1 and 3."""
    true: Rows = [[(0.0, 1.4, "a"), (1.0, 2.0, "b")]]
    found: Rows = [[(0.2, 0.9, "a"), (1.5, 1.7, "c"), (3.0, 4.0, "c")]]
    counts = by_segment(true, found, seconds=4.0)
    assert counts.true_positives.tolist() == [[1, 0, 0]]
    assert counts.predicted.tolist() == [[1, 0, 2]]
    assert counts.support.tolist() == [[2, 1, 0]]
    # second 1: a and b missed, c wrong: one substitution and one deletion; second 3: one insertion
    assert [counts.substituted[0], counts.deleted[0], counts.inserted[0]] == [1, 1, 1]
    assert events.f1_micro(counts, np.ones(1)) == pytest.approx(2 / 6)
    assert events.f1_macro(counts, np.ones(1)) == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert events.error_rate(counts, np.ones(1)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("found", "hit"),
    [
        ((1.2, 3.0, "a"), True),
        ((1.21, 3.0, "a"), False),
        ((0.8, 3.4, "a"), True),  # 20 % of two seconds
        ((1.0, 3.41, "a"), False),
        ((1.0, 3.0, "b"), False),
    ],
)
def test_collars(found: tuple[float, float, str], hit: bool) -> None:
    counts = by_event([[(1.0, 3.0, "a")]], [[found]])
    assert counts.true_positives.sum() == hit


def test_as_many_events_match_as_can() -> None:
    """The first found event fits both true ones, the second only the first."""
    counts = by_event([[(1.0, 2.0, "a"), (1.2, 2.2, "a")]], [[(1.1, 2.1, "a"), (0.9, 1.9, "a")]])
    assert counts.true_positives.sum() == 2


def test_rows_of_weight_0_do_not_exist_and_weights_are_repetitions() -> None:
    weight = np.array([0.0, 2.0, 1.0])
    again = (TRUE[1:2] + TRUE[1:], FOUND[1:2] + FOUND[1:])
    for score in (events.f1_micro, events.f1_macro, events.error_rate):
        assert score(by_segment(TRUE, FOUND), weight) == pytest.approx(score(by_segment(*again), np.ones(3)))
    assert events.f1_micro(by_event(TRUE, FOUND), weight) == pytest.approx(
        events.f1_micro(by_event(*again), np.ones(3))
    )


def test_without_any_event_scores_are_undefined() -> None:
    assert math.isnan(events.f1_micro(by_segment([[]], [[]]), np.ones(1)))
    assert math.isnan(events.f1_macro(by_event([[]], [[]]), np.ones(1)))
    assert math.isnan(events.error_rate(by_segment([[]], [[(1.0, 2.0, "a")]]), np.ones(1)))
    assert events.error_rate(by_segment([[(1.0, 2.0, "a")]], [[]]), np.ones(1)) == 1
