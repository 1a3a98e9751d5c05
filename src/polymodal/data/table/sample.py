"""A sample of one column, and what a modality or task concludes from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from polymodal.recipe.data import LimitOptions


@dataclass(frozen=True)
class ColumnSample:
    """A sample of a column, spread over the table.

    values: up to 2,000 non-null Python values
    kind: the Arrow type, or None where cells are Python objects (PIL images, numpy arrays)
    rows: rows in the table; nulls: null cells among the sampled rows; sampled: rows that were sampled
    root: the folder that relative paths start from
    limits: on media, for those who look into files
    """

    name: str
    values: list[Any]
    kind: pa.DataType | None
    rows: int
    sampled: int
    nulls: int
    root: Path | None
    limits: LimitOptions = field(default_factory=LimitOptions)

    @property
    def distinct(self) -> int:
        """Distinct values in the sample (by their text form where they cannot be hashed)."""
        try:
            return len(set(self.values))
        except TypeError:
            return len({repr(value)[:200] for value in self.values})


@dataclass(frozen=True)
class Guess:
    """A conclusion about a column: `confidence` 0 to 1 (the highest wins) and the `reason` shown to the user."""

    confidence: float
    reason: str
