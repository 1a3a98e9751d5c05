"""Recognition of columns of dates and times."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any

_TIME = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DATE = (
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/]\d{1,2}[-/](\d{4}|\d{2})|\d{1,2}\.\d{1,2}\.\d{4}|"
    rf"\d{{1,2}}[ -]{_MONTH}[ -]\d{{2,4}}|{_MONTH} \d{{1,2}},? \d{{4}}|\d{{4}}年\d{{1,2}}月\d{{1,2}}日"
)
_FORM = re.compile(rf"({_DATE})([T ]{_TIME} ?(Z|UTC|[-+]\d{{2}}:?\d{{2}})?)?|{_TIME}", re.IGNORECASE)
_MIN_SHARE = 0.95


def are_dates(values: Sequence[Any]) -> bool:
    """Whether nearly all values are dates or times: Python objects, or texts in a common form.

    Example:
        >>> are_dates(["2026-03-02", "2026-03-02 14:30"]), are_dates(["1.10.2", "2026"])
        (True, False)
    """
    if not values:
        return False
    first = values[: max(20, int(len(values) ** 0.5))]
    return _share(first) >= _MIN_SHARE and _share(values) >= _MIN_SHARE


def _share(values: Sequence[Any]) -> float:
    return sum(map(_is_date, values)) / len(values)


def _is_date(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 40 and _FORM.fullmatch(value.strip()) is not None
    return isinstance(value, datetime.date | datetime.time)
