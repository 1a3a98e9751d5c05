"""Why no modality reads a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polymodal.modalities.text import looks_like_identifiers


def why_unmatched(values: Sequence[Any]) -> str:
    """The reason that a plan gives for a column with these values, which no modality matches.

    Example:
        >>> why_unmatched(["A-0001", "A-0002", "A-0003"])
        "identifiers such as 'A-0001', which differ in every row"
    """
    if all(isinstance(value, str) for value in values) and looks_like_identifiers(list(values)):
        return f"identifiers such as {values[0]!r}, which differ in every row"
    return "no modality matches its values"
