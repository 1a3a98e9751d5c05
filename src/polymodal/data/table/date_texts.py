"""Texts of dates, times of day and durations, read as seconds."""

from __future__ import annotations

import datetime
import re
from functools import cached_property
from typing import NamedTuple

_MONTHS = {name: at for at, name in enumerate(re.findall("...", "janfebmaraprmayjunjulaugsepoctnovdec"), 1)}
_MONTH_NAMES = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_WEEKDAY = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,?\s+)?"
#: Hours east of UTC. The letters are those of RFC 2822.
_ZONES = {"z": 0, "utc": 0, "gmt": 0, "ut": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6}
_ZONES |= {"pst": -8, "pdt": -7}
_ZONE = rf"(?P<zone>(?:{'|'.join(sorted(_ZONES, key=len, reverse=True))})|[+-]\d{{2}}(?::?\d{{2}})?)"
_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?:\s?(?P<half>[ap])\.?m\.?)?"
)
_AFTER = rf"(?:(?:t|,?\s+){_CLOCK}(?:\s?{_ZONE})?(?:\s\([a-z]{{2,5}}\))?)?"
_MONTH = rf"(?P<name>{_MONTH_NAMES})\.?"


class _Pattern:
    """A regular expression that is compiled at its first use, so that a table without dates does not pay for it."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self._pattern, re.IGNORECASE | re.ASCII)

    def fullmatch(self, text: str) -> re.Match[str] | None:
        return self._compiled.fullmatch(text)

    def match(self, text: str, start: int) -> re.Match[str] | None:
        return self._compiled.match(text, start)


#: Every form of a date. `one` and `other` are the day and the month, in an order that the text does not tell.
_DATES = [
    _Pattern(rf"(?P<year>\d{{4}})(?P<mark>[-/.])(?P<month>\d{{1,2}})(?P=mark)(?P<day>\d{{1,2}}){_AFTER}"),
    _Pattern(rf"(?P<one>\d{{1,2}})(?P<mark>[-/.])(?P<other>\d{{1,2}})(?P=mark)(?P<year>\d{{4}}){_AFTER}"),
    _Pattern(rf"(?P<one>\d{{1,2}})(?P<mark>[-/])(?P<other>\d{{1,2}})(?P=mark)(?P<year>\d{{2}}){_AFTER}"),
    _Pattern(rf"(?P<one>\d{{2}})(?P<mark>\.)(?P<other>\d{{2}})\.(?P<year>\d{{2}}){_AFTER}"),
    _Pattern(
        rf"{_WEEKDAY}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[ .-]{{1,2}}{_MONTH},?[ -](?P<year>\d{{4}}|\d{{2}}){_AFTER}"
    ),
    _Pattern(rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}}){_AFTER}"),
    _Pattern(rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}})\s+{_CLOCK}\s+(?:{_ZONE}\s+)?(?P<year>\d{{4}})"),
    _Pattern(r"(?P<year>[12]\d{3})[-/](?P<month>\d{2})"),
    _Pattern(r"(?P<month>\d{1,2})/(?P<year>[12]\d{3})"),
    _Pattern(rf"{_MONTH}[ -](?P<year>\d{{4}})"),
    _Pattern(r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?:(?P<day>\d{1,2})日)?" + _AFTER),
    _Pattern(
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})t(?P<hour>\d{2})(?P<minute>\d{2})(?:(?P<second>\d{2})"
        rf"(?:[.,](?P<fraction>\d{{1,9}}))?)?(?P<half>){_ZONE}?"
    ),
]
_TIME = _Pattern(rf"{_CLOCK}(?:\s?{_ZONE})?")
_NUMBER = r"\d+(?:[.,]\d+)?"
_ISO_DURATION = _Pattern(
    rf"(?P<sign>[-+])?p(?=\d|t\d)(?:(?P<years>{_NUMBER})y)?(?:(?P<months>{_NUMBER})m)?(?:(?P<weeks>{_NUMBER})w)?"
    rf"(?:(?P<days>{_NUMBER})d)?(?:t(?=\d)(?:(?P<hours>{_NUMBER})h)?(?:(?P<minutes>{_NUMBER})m)?(?:(?P<seconds>{_NUMBER})s)?)?"
)
_DAYS = _Pattern(r"(?P<days>[-+]?\d+)\s+days?(?:,?\s+(?P<sign>[-+])?(?P<clock>\d+:\d{2}(?::\d{2}(?:\.\d{1,9})?)?))?")
_LONG_CLOCK = _Pattern(
    r"(?P<sign>[-+])?(?P<hours>\d{1,6}):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d(?:[.,]\d{1,9})?))?"
)
_UNIT_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_UNITS = r"(w(?:eeks?|ks?)?|d(?:ays?)?|h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)"
_PART = _Pattern(rf"({_NUMBER})\s?{_UNITS}\b(?:,?\s*(?:and\s+)?)|({_NUMBER}){_UNITS}(?=\d)")
MAX_LENGTH = 48


class Moment(NamedTuple):
    """A date with its time.

    wall: seconds from 1970-01-01 00:00 to the date and time as they are written
    instant: seconds from 1970-01-01 00:00 UTC; a time without a zone counts as UTC
    """

    wall: float
    instant: float


def match_date(text: str) -> re.Match[str] | None:
    """The parts of a text that has the form of a date."""
    if len(text) > MAX_LENGTH:
        return None
    return next((found for form in _DATES if (found := form.fullmatch(text))), None)


def order_votes(text: str) -> tuple[bool, bool, bool] | None:
    """Of a date such as 3/2/2026 whose text does not tell the order of day and month: whether it can have the day
    first, whether it can have the month first, and whether nobody has to be asked (3/3/2026, and 3.2.2026, where the
    day is first by custom). None for every other text."""
    found = match_date(text)
    parts = found.groupdict() if found else {}
    if not found or parts.get("one") is None:
        return None
    one, other = int(found["one"]), int(found["other"])
    return other <= 12, one <= 12, one == other or found["mark"] == "."


def parse_date(text: str, *, day_first: bool) -> Moment:
    """A text as a date, with the time and the zone if it has them. A month alone is its first day.

    Example:
        >>> parse_date("1970-01-02", day_first=True)
        Moment(wall=86400.0, instant=86400.0)
        >>> parse_date("Fri, 02 Jan 1970 01:00:00 +0100", day_first=True)
        Moment(wall=90000.0, instant=86400.0)

    Raises:
        ValueError: it is no date.
    """
    found = match_date(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a date")
    parts = found.groupdict()
    if parts.get("one") is not None:
        day, month = (found["one"], found["other"]) if day_first else (found["other"], found["one"])
    else:
        day, month = parts.get("day") or "1", parts.get("month") or ""
    number = _MONTHS[parts["name"][:3].lower()] if parts.get("name") else int(month)
    year = int(found["year"])
    if len(found["year"]) == 2:
        year += 1900 if year >= 69 else 2000
    try:
        days = datetime.date(year, number, int(day)).toordinal() - _EPOCH
    except ValueError:
        order = f" (dates of this column have the {'day' if day_first else 'month'} first)"
        raise ValueError(f"{text[:40]!r} is not a date{order if parts.get('one') else ''}") from None
    wall = days * 86_400.0 + (_clock(parts, text) if parts.get("hour") is not None else 0.0)
    return Moment(wall, wall - _offset(parts.get("zone")))


def parse_time(text: str) -> float:
    """A time of day in seconds after midnight. A zone is ignored.

    Example:
        >>> parse_time("2:30 PM")
        52200.0

    Raises:
        ValueError: it is no time of day.
    """
    found = _TIME.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a time of day")
    return _clock(found.groupdict(), text)


def parse_duration(text: str) -> float:
    """A duration in seconds: `1 day 02:00:00`, `P1DT2H`, `02:15:30`, `2h 30m`.

    Example:
        >>> parse_duration("1 day 02:00:00"), parse_duration("P1DT2H"), parse_duration("-1 day, 23:00:00")
        (93600.0, 93600.0, -3600.0)

    Raises:
        ValueError: it is no duration, or it has years or months, whose length is not fixed.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{text[:40]!r} is not a duration")
    if found := _LONG_CLOCK.fullmatch(text):
        return _signed(found["sign"], _long_clock(found))
    if found := _DAYS.fullmatch(text):
        clock = _LONG_CLOCK.fullmatch(found["clock"]) if found["clock"] else None
        rest = _signed(found["sign"], _long_clock(clock)) if clock else 0.0
        return int(found["days"]) * 86_400.0 + rest
    if found := _ISO_DURATION.fullmatch(text):
        if found["years"] or found["months"]:
            raise ValueError(f"{text[:40]!r} has years or months, whose length is not fixed")
        units = ("weeks", "days", "hours", "minutes", "seconds")
        return _signed(found["sign"], sum(_decimal(found[unit]) * _UNIT_SECONDS[unit[0]] for unit in units))
    return _with_units(text)


def is_time(text: str) -> bool:
    """Whether a text is a time of day."""
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


def is_date(text: str) -> bool:
    """Whether a text is a date, with the day or the month first."""
    votes = order_votes(text)
    try:
        parse_date(text, day_first=votes is None or votes[0])
    except ValueError:
        return False
    return True


def is_duration(text: str) -> bool:
    """Whether a text is a duration."""
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


_EPOCH = datetime.date(1970, 1, 1).toordinal()


def _clock(parts: dict[str, str | None], text: str) -> float:
    hour, minute, second = (int(parts.get(name) or 0) for name in ("hour", "minute", "second"))
    half = (parts.get("half") or "").lower()
    if half and not 1 <= hour <= 12:
        raise ValueError(f"{text[:40]!r} is not a time of day")
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text[:40]!r} is not a time of day")
    return hour * 3600.0 + minute * 60.0 + second + float(f"0.{parts.get('fraction') or 0}")


def _offset(zone: str | None) -> float:
    """Seconds east of UTC."""
    if zone is None:
        return 0.0
    if zone.lower() in _ZONES:
        return _ZONES[zone.lower()] * 3600.0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return _signed(zone[0], int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0)


def _long_clock(found: re.Match[str]) -> float:
    return int(found["hours"]) * 3600.0 + int(found["minutes"]) * 60.0 + _decimal(found["seconds"])


def _with_units(text: str) -> float:
    """`2h 30m`, `3 days 4 hours`: at least two units, each at most once. One number with a unit is a number."""
    at, seconds, units = 0, 0.0, []
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            break
        number, unit = (found[1], found[2]) if found[1] else (found[3], found[4])
        units.append(unit[0].lower())
        seconds += _decimal(number) * _UNIT_SECONDS[unit[0].lower()]
        at = found.end()
    if at < len(text) or len(units) < 2 or len(set(units)) < len(units):
        raise ValueError(f"{text[:40]!r} is not a duration")
    return seconds


def _decimal(text: str | None) -> float:
    return float(text.replace(",", ".")) if text else 0.0


def _signed(sign: str | None, value: float) -> float:
    return -value if sign == "-" else value
