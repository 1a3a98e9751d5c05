"""A sample of a column, and the match of a modality or task with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from polymodal.data.objects import Root
from polymodal.recipe.data import LimitOptions


@dataclass(frozen=True)
class ColumnSample:
    """A sample of a column, spread over the table.

    values: up to 2,000 non-null Python values
    arrow_type: the Arrow type, or None if cells are Python objects (PIL images, numpy arrays)
    rows: number of rows of the table
    sampled: number of sampled rows
    nulls: null cells among the sampled rows
    root: base folder of relative paths
    limits: limits on media, for callers that open files
    """

    name: str
    values: list[Any]
    arrow_type: pa.DataType | None
    rows: int
    sampled: int
    nulls: int
    root: Root | None
    limits: LimitOptions = field(default_factory=LimitOptions)

    @property
    def distinct(self) -> int:
        """Distinct values in the sample (by their text form if they are not hashable)."""
        try:
            return len(set(self.values))
        except TypeError:
            return len({repr(value)[:200] for value in self.values})


@dataclass(frozen=True)
class Match:
    """How well a modality or task fits a column.

    confidence: 0 to 1; the highest wins
    reason: shown to the user
    """

    confidence: float
    reason: str
