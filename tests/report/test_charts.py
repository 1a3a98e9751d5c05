"""Charts put values in the right places; calibration counts what came true."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymodal.core.formatting import count_noun, format_duration, format_score, join_words, truncate
from polymodal.report.calibration import calibration_error, confidence_and_correctness, reliability_bins
from polymodal.report.charts import ChartLine, interval_bar, line_chart, scatter_chart, ticks


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(place: float, span: float) -> None:
    low, high = place * span, (place + 1) * span
    found = ticks((low, high))
    assert 2 <= len(found) <= 7
    assert all(low - 1e-6 * span <= tick <= high + 1e-6 * span for tick in found)
    assert len(set(np.round(np.diff(found) / span, 6))) <= 1


def test_ticks_of_epochs_are_whole() -> None:
    assert ticks((1, 3), integers_only=True) == [1, 2, 3]
    assert ticks((5, 5), integers_only=True) == [5]


def test_line_chart_is_valid_and_escapes() -> None:
    lines = [ChartLine("<b>", [(1, 0.5), (2, float("nan")), (3, 0.1)], "one"), ChartLine("none", [], "two")]
    chart = line_chart(lines, title='a "<title>"', x_label="epoch", y_label="loss", level=("baseline", 0.9), marked=[3])
    root = ElementTree.fromstring(chart)
    assert root.attrib["aria-label"] == 'a "<title>"'
    first = next(one for one in root.iter("polyline") if one.attrib["class"] == "line one")
    points = [tuple(map(float, pair.split(","))) for pair in first.attrib["points"].split()]
    assert len(points) == 2
    assert points[0][0] < points[1][0]
    assert points[0][1] < points[1][1]  # a larger loss is higher up, and y grows downwards


def test_scatter_puts_equal_numbers_on_the_diagonal_and_thins_many() -> None:
    numbers = np.linspace(-5, 20, 4000)
    root = ElementTree.fromstring(scatter_chart(numbers, numbers, title="t", unit="price"))
    path = next(iter(root.iter("path"))).attrib["d"]
    places = np.array([[float(x) for x in pair] for pair in re.findall(r"M([\d.]+) ([\d.]+)h0", path)])
    assert 1000 < len(places) <= 1500
    slope = np.diff(places[[0, -1]], axis=0)[0]
    line = places[0] + np.outer((places[:, 0] - places[0, 0]) / slope[0], slope)
    assert np.abs(line - places).max() < 0.3
    ElementTree.fromstring(scatter_chart(np.zeros(0), np.zeros(0), title="t", unit="price"))


def test_interval_bar_is_in_order() -> None:
    root = ElementTree.fromstring(interval_bar(0.7, 0.6, 0.8, 0.5, (0.0, 1.0)))
    span = next(one for one in root.iter("line") if one.attrib["class"] == "span").attrib
    baseline = next(one for one in root.iter("line") if one.attrib["class"] == "baseline").attrib
    dot = next(iter(root.iter("circle"))).attrib
    assert float(baseline["x1"]) < float(span["x1"]) < float(dot["cx"]) < float(span["x2"])


def test_calibrated_probabilities_have_a_small_error_and_overconfident_ones_a_large() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random(20_000)
    happened = generator.random(20_000) < probability
    bins = reliability_bins(probability, happened)
    assert sum(one.count for one in bins) == 20_000
    assert all(one.low <= one.observed <= one.high for one in bins)
    assert calibration_error(bins) < 0.02
    wrong = reliability_bins(np.full(1000, 0.95), generator.random(1000) < 0.5)
    assert calibration_error(wrong) == pytest.approx(0.45, abs=0.05)
    assert np.isnan(calibration_error(reliability_bins(np.zeros(0), np.zeros(0, bool))))


def test_decisions_of_classes_and_labels() -> None:
    distribution = np.array([[0.8, 0.2], [0.4, 0.6]])
    probability, happened = confidence_and_correctness(distribution, np.array([0, 0]))
    assert probability.tolist() == [0.8, 0.6]
    assert happened.tolist() == [True, False]
    probability, happened = confidence_and_correctness(distribution, np.array([[1, 0], [0, 1]]))
    assert probability.tolist() == [0.8, 0.2, 0.4, 0.6]
    assert happened.tolist() == [True, False, False, True]


def test_words() -> None:
    assert [format_score(x) for x in (None, float("nan"), 0.5, 12345.6, 123.45, 0.0001, 0.0)] == [
        "–",
        "–",
        "0.500",
        "12,346",
        "123.5",
        "0.0001",
        "0.000",
    ]
    assert [format_duration(x) for x in (2.34, 61, 7260)] == ["2.3 s", "1 min 1 s", "2 h 1 min"]
    assert [join_words(x) for x in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert count_noun(1, "row") == "1 row"
    assert count_noun(2000, "class", "classes") == "2,000 classes"
    assert len(truncate("x" * 500)) == 200
    assert truncate(b"123") == "(3 bytes)"
