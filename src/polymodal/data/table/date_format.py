"""The form of a column of dates, times of day or durations, and the reading of its cells as seconds."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from polymodal.data.table.cell_kinds import MARKS, NULL_WORDS
from polymodal.data.table.date_texts import (
    Moment,
    is_date,
    is_duration,
    is_time,
    order_votes,
    parse_date,
    parse_duration,
    parse_time,
)

DateKind = Literal["date", "time", "duration"]
Integers = Literal["seconds", "milliseconds", "yyyymmdd"]

#: The smallest share of a column's cells that a form must read.
MIN_READABLE = 0.95
#: Largest share of dates with the rarer order of day and month; more are two conventions in one column.
MAX_OTHER_ORDER = 0.05
# The first cells show whether it is worth while to read the others.
_FIRST = 20
_NULL_WORDS = frozenset(NULL_WORDS)
# Cells that say nothing about the form: no value, and marks for broken values, which are bad cells.
_NO_DATE = frozenset([*NULL_WORDS, *MARKS])
_NAMES_DURATION = re.compile(
    r"(^|[_\W])(duration|elapsed|runtime|took|length|delay|timedelta)($|[_\W\d])", re.IGNORECASE
)
_DIGITS = re.compile(r"-?[0-9]{1,19}(\.0+)?")
_EPOCH = datetime.datetime(1970, 1, 1)


class OrderUnknownError(ValueError):
    """The cells of a column do not tell whether the day or the month is first."""


@dataclass(frozen=True)
class DateFormat:
    """How the dates, times of day or durations of a column are written.

    kind: `date` (with or without a time), `time` (of day) or `duration`
    day_first: whether 3/2/2026 is the third of February
    integers: how whole numbers are read; None: they are bad cells

    Example:
        >>> DateFormat("date", day_first=True).read("3/2/1970")
        Moment(wall=2851200.0, instant=2851200.0)
    """

    kind: DateKind
    day_first: bool = True
    integers: Integers | None = None

    def read(self, cell: Any) -> Moment | None:
        """A cell in seconds: from 1970 for a date, from midnight for a time of day; None if it has no value.

        ISO forms and Python objects are read in every column.

        Raises:
            ValueError: it is not of this kind.
        """
        if isinstance(cell, str):
            text = cell.strip()
            return None if text in _NULL_WORDS else self._read_text(text)
        value = cell.item() if isinstance(cell, np.generic) else cell
        if value is None or value != value:
            return None
        if isinstance(value, datetime.datetime) and self.kind == "date":
            return _moment(value)
        if isinstance(value, datetime.date) and self.kind == "date":
            return _moment(datetime.datetime(value.year, value.month, value.day))
        if isinstance(value, datetime.time) and self.kind == "time":
            return _same(_seconds(value))
        if isinstance(value, datetime.timedelta) and self.kind == "duration":
            return _same(value.total_seconds())
        if isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
            return self._read_integer(int(value))
        raise ValueError(f"expected {self.noun}, not {type(cell).__name__}")

    def _read_text(self, text: str) -> Moment:
        if self.kind == "duration":
            return _same(parse_duration(text))
        if self.kind == "time":
            return _same(parse_time(text))
        if self.integers is not None and _DIGITS.fullmatch(text):
            return self._read_integer(int(text.partition(".")[0]))
        return parse_date(text, day_first=self.day_first)

    def _read_integer(self, value: int) -> Moment:
        if self.integers is None or self.kind != "date":
            hint = "; to read whole numbers, set `integers`" if self.kind == "date" else ""
            raise ValueError(f"expected {self.noun}, not the number {value}{hint}")
        if self.integers == "yyyymmdd":
            text = str(value)
            if len(text) != 8 or value < 0:
                raise ValueError(f"{text[:40]!r} is not a date such as 20260302")
            return parse_date(f"{text[:4]}-{text[4:6]}-{text[6:]}", day_first=self.day_first)
        seconds = value / (1000 if self.integers == "milliseconds" else 1)
        if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
            raise ValueError(f"{value} {self.integers} from 1970 is not a date between the years 1 and 9999")
        return _same(seconds)

    @property
    def noun(self) -> str:
        """What a cell is."""
        return {"date": "a date", "time": "a time of day", "duration": "a duration"}[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """The format as a JSON object: the arguments of the class."""
        return asdict(self)


def infer_kind(values: Sequence[Any], name: str = "") -> DateKind | None:
    """Whether a column has dates, times of day or durations; None if fewer than `MIN_READABLE` of its values are.

    A column of clock times (`02:15:30`) has durations if one of them is 24 hours or longer, or if its `name` says so.

    Example:
        >>> infer_kind(["2026-03-02", "Mar 3, 2026"]), infer_kind(["14:30"]), infer_kind(["26:15:30", "2:00:00"])
        ('date', 'time', 'duration')
        >>> infer_kind(["1.10.2", "2026"]) is None
        True
    """
    present = [value for value in values if not (isinstance(value, str) and value.strip() in _NO_DATE)]
    if not present or (len(present) > _FIRST and not _kind(present[:_FIRST], name)):
        return None
    return _kind(present, name)


def are_dates(values: Sequence[Any]) -> bool:
    """Whether nearly all values are dates, times of day or durations: Python objects, or texts in a common form.

    Example:
        >>> are_dates(["2026-03-02", "2026-03-02 14:30"]), are_dates(["1.10.2", "2026"])
        (True, False)
    """
    return infer_kind(values) is not None


def _kind(values: Sequence[Any], name: str) -> DateKind | None:
    needed = MIN_READABLE * len(values)
    if sum(map(_is_date, values)) >= needed:
        return "date"
    times, durations = [_is_time(value) for value in values], [_is_duration(value) for value in values]
    if sum(times) >= needed and (_NAMES_DURATION.search(name) is None or sum(durations) < needed):
        longer = any(lasts and not clock for lasts, clock in zip(durations, times, strict=True))
        return "duration" if longer and sum(durations) >= needed else "time"
    return "duration" if sum(durations) >= needed else None


def _is_date(value: Any) -> bool:
    return is_date(value.strip()) if isinstance(value, str) else isinstance(value, datetime.date)


def _is_time(value: Any) -> bool:
    return is_time(value.strip()) if isinstance(value, str) else isinstance(value, datetime.time)


def _is_duration(value: Any) -> bool:
    return is_duration(value.strip()) if isinstance(value, str) else isinstance(value, datetime.timedelta)


def day_is_first(cells: Iterable[Any]) -> bool | None:
    """Whether dates such as 3/2/2026 have the day first; None if there are none.

    Raises:
        OrderUnknownError: each of them can be read in both ways, or the column has both orders.

    Example:
        >>> day_is_first(["3/2/2026", "25/2/2026"]), day_is_first(["3/2/2026", "2/25/2026"])
        (True, False)
    """
    day_only = month_only = 0
    open_date, example, by_custom = "", {True: "", False: ""}, False
    for cell in cells:
        votes = order_votes(cell.strip()) if isinstance(cell, str) else None
        if votes is None:
            continue
        day, month, agreed = votes
        by_custom = by_custom or agreed
        if day != month:
            day_only, month_only = day_only + day, month_only + month
            example[day] = example[day] or cell.strip()
        elif day and not agreed:
            open_date = open_date or cell.strip()
    if min(day_only, month_only) > MAX_OTHER_ORDER * (day_only + month_only):
        raise OrderUnknownError(
            f"some dates have the day first ({example[True]!r}) and others the month ({example[False]!r})"
        )
    if day_only or month_only:
        return day_only > month_only
    if open_date:
        raise OrderUnknownError(f"each date such as {open_date!r} can have the day first or the month first")
    return True if by_custom else None


def read_dates(cells: Any, format: DateFormat) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """A column in seconds as (`wall [rows]`, `instant [rows]`, reason of each bad position), as in `Moment`. NaN if a
    cell is missing or bad.

    cells: an Arrow array or a list
    """
    fast = _read_arrow(cells, format) if isinstance(cells, pa.ChunkedArray | pa.Array) else None
    if fast is not None:
        return fast, fast, {}
    known: dict[Any, Moment | str | None] = {}
    wall, instant, bad = np.full(len(cells), np.nan), np.full(len(cells), np.nan), {}
    for position, cell in enumerate(cells.to_pylist() if isinstance(cells, pa.ChunkedArray | pa.Array) else cells):
        found = known.get(cell) if isinstance(cell, str) else None
        if found is None:
            found = _read_or_reason(cell, format)
            if isinstance(cell, str):
                known[cell] = found
        if isinstance(found, str):
            bad[position] = found
        elif found is not None:
            wall[position], instant[position] = found
    return wall, instant, bad


def _read_or_reason(cell: Any, format: DateFormat) -> Moment | str | None:
    try:
        return format.read(cell)
    except ValueError as error:
        return str(error)


def _read_arrow(cells: Any, format: DateFormat) -> np.ndarray | None:
    """The seconds of an Arrow array whose type has no zone and fits the format; None for every other array."""
    types, kind = pa.types, cells.type
    if format.kind == "date" and types.is_timestamp(kind) and kind.tz is None:
        wanted: Any = pa.timestamp("us")
    elif format.kind == "date" and types.is_date(kind):
        wanted = pa.timestamp("us")
    elif format.kind == "time" and types.is_time(kind):
        wanted = pa.time64("us")
    elif format.kind == "duration" and types.is_duration(kind):
        wanted = pa.duration("us")
    else:
        return None
    whole = cells.cast(wanted, safe=False).cast(pa.int64())
    seconds = np.array(whole.to_numpy(zero_copy_only=False), dtype=np.float64) if len(whole) else np.empty(0)
    return seconds / 1e6


def column_date_format(
    blocks: Sequence[Any], name: str, *, day_first: bool | None, integers: Integers | None
) -> DateFormat:
    """The format of the cells of one column in all its blocks (Arrow arrays or lists).

    Raises:
        OrderUnknownError: the order of day and month is not set, and the cells do not tell it.
    """
    cells: list[Any] = []
    for block in blocks:
        cells += block.unique().to_pylist() if isinstance(block, pa.ChunkedArray | pa.Array) else list(block)
    present = [cell for cell in cells if cell is not None]
    format = DateFormat(infer_kind(present, name) or "date", integers=integers)
    if format.kind == "date":
        order = day_is_first(present) if day_first is None else day_first
        format = replace(format, day_first=True if order is None else order)
    return format


def _moment(value: datetime.datetime) -> Moment:
    wall = (value.replace(tzinfo=None) - _EPOCH).total_seconds()
    offset = value.utcoffset()
    return Moment(wall, wall - (offset.total_seconds() if offset is not None else 0.0))


def _same(seconds: float) -> Moment:
    return Moment(seconds, seconds)


def _seconds(value: datetime.time) -> float:
    return value.hour * 3600.0 + value.minute * 60.0 + value.second + value.microsecond / 1e6


_FIRST_SECOND = (datetime.datetime(1, 1, 1) - _EPOCH).total_seconds()
_LAST_SECOND = (datetime.datetime(9999, 12, 31) - _EPOCH).total_seconds()
