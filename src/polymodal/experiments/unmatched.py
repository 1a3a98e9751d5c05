"""Why no modality reads a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polymodal.data.table.dates import are_dates
from polymodal.modalities.text import looks_like_identifiers


def why_unmatched(values: Sequence[Any]) -> str:
    """The reason that a plan gives for a column with these values, which no modality matches.

    Example:
        >>> why_unmatched(["2026-03-02", "2026-03-03"])
        "dates or times such as '2026-03-02'; add numbers, such as the year or the age in days"
    """
    if are_dates(values):
        return f"dates or times such as '{values[0]}'; add numbers, such as the year or the age in days"
    if all(isinstance(value, str) for value in values) and looks_like_identifiers(list(values)):
        return f"identifiers such as {values[0]!r}, which differ in every row"
    return "no modality matches its values"
