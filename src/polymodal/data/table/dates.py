"""Recognition of columns of dates and times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polymodal.data.table.date_format import infer_kind


def are_dates(values: Sequence[Any]) -> bool:
    """Whether nearly all values are dates, times of day or durations: Python objects, or texts in a common form.

    Example:
        >>> are_dates(["2026-03-02", "2026-03-02 14:30"]), are_dates(["1.10.2", "2026"])
        (True, False)
    """
    return infer_kind(values) is not None
