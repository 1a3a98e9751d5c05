"""A data set of the suite: its table, target, metric, kind, half and number of repetitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

Columns = dict[str, list[Any]]
Half = Literal["development", "final"]
Kind = Literal["numbers", "text", "image", "sound", "series", "mixed"]
Metric = Literal["accuracy", "balanced_accuracy", "r2"]
CellType = Literal["number", "category", "date", "text", "image", "sound", "series"]


@dataclass(frozen=True)
class Dataset:
    """A table with one target.

    half: `development` sets may be used to choose defaults; `final` sets are looked at once, at the end
    build: returns the columns; paths of media are relative to `assets_folder()`, a missing cell is None
    types: the type of each input column that does not hold numbers; the scripts know it, Polymodal infers it
    assets: the packages that `build` reads
    group: a column whose equal cells stay in one part of a split; it may be an input
    hidden: columns that are not inputs
    seeds, folds: repetitions of the full protocol; expensive sets have fewer
    """

    name: str
    kind: Kind
    half: Half
    target: str
    metric: Metric
    build: Callable[[], Columns]
    types: dict[str, CellType] = field(default_factory=dict)
    assets: tuple[str, ...] = ()
    group: str | None = None
    hidden: tuple[str, ...] = ()
    seeds: int = 5
    folds: int = 5

    @property
    def is_regression(self) -> bool:
        return self.metric == "r2"

    def input_types(self, columns: Columns) -> dict[str, CellType]:
        """The type of each input column of the table."""
        left_out = (self.target, *self.hidden)
        return {name: self.types.get(name, "number") for name in columns if name not in left_out}

    def only(self, column: str) -> Dataset:
        """The set with one input, in the same folds; its name is `NAME:COLUMN`."""
        hidden = tuple(name for name in self.build() if name not in (column, self.target))
        return replace(self, name=f"{self.name}:{column}", hidden=hidden)


def num_rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def take(columns: Columns, rows: np.ndarray | list[int]) -> Columns:
    """Some rows of a table, in this order."""
    return {name: [cells[row] for row in rows] for name, cells in columns.items()}


def sample(columns: Columns, count: int, seed: int = 0) -> Columns:
    """At most `count` rows drawn without replacement, always the same for a seed."""
    rows = np.random.default_rng(seed).permutation(num_rows(columns))[:count]
    return take(columns, rows)


def numbers(cells: list[str]) -> list[float | None]:
    """Numbers from the cells of a CSV file; empty cells are missing."""
    return [float(cell) if cell not in ("", "NA", ".") else None for cell in cells]
