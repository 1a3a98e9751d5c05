"""Texts of dates, times of day and durations."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from polymodal.data.table.date_format import (
    DateFormat,
    OrderUnknownError,
    are_dates,
    day_is_first,
    infer_kind,
    read_dates,
)
from polymodal.data.table.date_texts import is_date, is_duration, is_time, parse_date, parse_duration, parse_time

EPOCH = dt.datetime(1970, 1, 1)
MARCH_2 = dt.datetime(2026, 3, 2)
AFTERNOON = dt.datetime(2026, 3, 2, 14, 30)


FORMS: list[tuple[str, dt.datetime, float]] = [
    ("2026-03-02, 2026-3-2, 2026/03/02, 2026.03.02, 2026年3月2日, 02.03.2026, 2/3/2026, 2-3-2026, 2/3/26", MARCH_2, 0),
    ("02.03.26, mar. 2 2026, MARCH 02 2026, 2 March 2026, 2-Mar-2026, 2-Mar-26, 02. Mar 2026", MARCH_2, 0),
    ("2026-03-02 12:00 AM, 2026-03-02T00:00", MARCH_2, 0),
    ("2026-03, 2026/03, 03/2026, 3/2026, Mar 2026, 2026年3月", dt.datetime(2026, 3, 1), 0),
    ("2026-03-02 14:30, 2026-03-02T14:30:00, 2026-03-02 2:30 PM, 2/3/2026 2:30 p.m., 02.03.2026 14:30", AFTERNOON, 0),
    ("2026-03-02T14:30Z, 20260302T143000Z, 2026-03-02 14:30 UTC, Mon Mar  2 14:30:00 2026", AFTERNOON, 0),
    ("Mon Mar 02 14:30:00 UTC 2026, Mon Mar 02 14:30:00 +0000 2026", AFTERNOON, 0),
    ("2026-03-02T14:30:00+01:00, 2026-03-02T14:30:00+0100, 2026-03-02 14:30:00 +01", AFTERNOON, 1),
    ("2026-03-02T14:30:00.250000000-05:30", AFTERNOON + dt.timedelta(seconds=0.25), -5.5),
    ("1850-01-01", dt.datetime(1850, 1, 1), 0),
]
WITH_COMMAS = [
    *((text, MARCH_2, 0) for text in ("Mar 2, 2026", "March 2nd, 2026", "Monday, March 2, 2026")),
    ("2/3/2026, 2:30 p.m.", AFTERNOON, 0),
    ("Mon, 02 Mar 2026 14:30:00 GMT", AFTERNOON, 0),
    ("Mon, 02 Mar 2026 14:30:00 +0100 (CET)", AFTERNOON, 1),
    ("Mon, 2 Mar 2026 14:30 EST", AFTERNOON, -5),
]


@pytest.mark.parametrize(
    ("text", "wanted", "hours_east"),
    [*((text, wanted, east) for texts, wanted, east in FORMS for text in texts.split(", ")), *WITH_COMMAS],
)
def test_every_common_form_of_a_date(text: str, wanted: dt.datetime, hours_east: float) -> None:
    found = parse_date(text, day_first=True)
    assert EPOCH + dt.timedelta(seconds=found.wall) == wanted
    assert found.wall - found.instant == 3600 * hours_east
    assert is_date(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1 day 02:00:00", 93_600), ("0 days 00:00:01.5", 1.5), ("2 days", 172_800), ("-1 days +23:00:00", -3600),
        ("-1 day, 23:00:00", -3600), ("P1DT2H", 93_600), ("PT15M", 900), ("P2W", 1_209_600), ("PT0.5S", 0.5),
        ("-P1D", -86_400), ("02:15:30", 8130), ("26:15", 94_500), ("2h 30m", 9000), ("2h30m", 9000),
        ("1d2h3m4s", 93_784),
                ("3 days 4 hours", 273_600), ("1 hour and 5 minutes", 3900), ("100:00:00", 360_000),
    ],
)  # fmt: skip
def test_every_common_form_of_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert is_duration(text)


def test_times_of_day() -> None:
    texts = ["14:30", "14:30:05.5", "2:30 PM", "12:00 am", "00:00"]
    assert [parse_time(text) for text in texts] == [52_200, 52_205.5, 52_200, 0, 0]


NOTHING = """2026 1.10.2 3/4 10-20 1234-56 A1-B2 P PT P1M 2026-13-01 30/2/2026 31/31/2026 25:61 13:00PM 7 0.5 true
12:5 192.168.2.1 5 90min 2h X2026-03-02 2026-03-02x 1/2/3 may"""


@pytest.mark.parametrize("text", [*NOTHING.split(), "", "90 min", "version 2", "1 h 2 h", "in May 2026", "1" * 60])
def test_what_is_no_date(text: str) -> None:
    assert not is_date(text)
    assert not is_time(text)
    assert not is_duration(text)


def test_the_kind_of_a_column() -> None:
    assert infer_kind(["14:30", "02:15:30"]) == "time"
    assert infer_kind(["14:30", "30:15:30"]) == "duration"
    assert infer_kind(["14:30", "02:15:30"], "trip_duration") == "duration"
    assert infer_kind([dt.timedelta(1)]) == "duration"
    assert infer_kind([dt.time(1)]) == "time"
    assert infer_kind([dt.date(2026, 1, 1), dt.datetime(2026, 1, 1)]) == "date"
    assert infer_kind(["2026-03-02", "?", "NA", ""]) == "date"
    assert infer_kind(["2026-03-02"] * 90 + ["soon"] * 10) is None
    assert infer_kind(["2026-03-02", "14:30"]) is None
    assert infer_kind([]) is None
    assert not are_dates([1, 2, True, "x"])


def test_the_order_of_day_and_month() -> None:
    assert day_is_first(["3/2/2026", "25/2/2026", "2026-01-13", None, 5]) is True
    assert day_is_first(["3/2/2026", "2/25/26"]) is False
    assert day_is_first(["02.03.2026", "01.02.2026"]) is True
    assert day_is_first(["02.03.2026", "01.25.2026"]) is False
    assert day_is_first(["2026-03-02"]) is None
    assert day_is_first([*["25/2/2026"] * 99, "2/25/2026"]) is True
    for cells in (["3/2/2026"], ["3-2-2026", "2/2/2026"], ["25/2/2026", "2/25/2026"]):
        with pytest.raises(OrderUnknownError):
            day_is_first(cells)


def test_arrow_arrays_are_read_as_their_cells() -> None:
    times = [dt.datetime(1969, 3, 2, 14, 30, 0, 250_000), None, dt.datetime(2026, 3, 2)]
    zoned = pd.Series(times).dt.tz_localize("Europe/Berlin")
    columns: list[tuple[DateFormat, Any]] = [
        *((DateFormat("date"), pa.array(times, pa.timestamp(unit))) for unit in ("ms", "us", "ns")),
        (DateFormat("date"), pa.array([None if one is None else one.date() for one in times])),
        (DateFormat("date"), pa.array(zoned)),
        (DateFormat("time"), pa.array([None if one is None else one.time() for one in times])),
        (DateFormat("duration"), pa.array([None if one is None else one - EPOCH for one in times])),
    ]
    for format, array in columns:
        wall, instant, bad = read_dates(array, format)
        listed = read_dates(array.to_pylist(), format)
        np.testing.assert_allclose(wall, listed[0])
        np.testing.assert_allclose(instant, listed[1])
        assert bad == {}
        assert np.isnan(wall).tolist() == [False, True, False]
    wall, instant, _ = read_dates(pa.array(zoned), DateFormat("date"))
    assert (wall - instant).tolist()[::2] == [3600, 3600]


def test_a_bad_cell_has_a_reason() -> None:
    cells = ["2026-03-02", "soon", "2026-02-30", "3/13/2026", 5, True, dt.time(1), b"x", None]
    _, _, bad = read_dates(cells, DateFormat("date", day_first=True))
    assert sorted(bad) == [1, 2, 3, 4, 5, 6, 7]
    assert bad[3] == "'3/13/2026' is not a date (dates of this column have the day first)"
    assert bad[6] == "expected a date, not time"
