"""Items that occur in two splits: leakage that would make a test score too high."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from pydantic.dataclasses import dataclass

from polymodal.core.record import RECORD_CONFIG
from polymodal.data.store.items import PreparedInput


@dataclass(frozen=True, config=RECORD_CONFIG)
class SharedItems:
    """Distinct items of an `input` that occur in both splits of `between`, and the rows of the second split that
    have them."""

    input: str
    between: tuple[str, str]
    items: int
    rows: int


def overlap(one: PreparedInput, other: PreparedInput) -> tuple[int, int]:
    """Count the distinct items of `other` that are also in `one`, and the rows of `other` that have them.

    If both are rows of one `PreparedInput` (the same `items`), items are compared by number, else by content key. Items
    without content keys are never shared between two tables.
    """
    if one.items is other.items:
        theirs = np.unique(one.index[one.index >= 0])
        return _count(other.index, np.isin(np.arange(len(other.items)), theirs))
    if one.content_keys is None or other.content_keys is None:
        return 0, 0
    known = {one.content_keys[item] for item in np.unique(one.index[one.index >= 0])}
    return _count(other.index, np.array([key in known for key in other.content_keys], dtype=bool))


def _count(index: np.ndarray, shared: np.ndarray) -> tuple[int, int]:
    known_items = index[index >= 0]
    known_items = known_items[shared[known_items]]
    return len(np.unique(known_items)), len(known_items)


def shared_items(prepared: dict[str, PreparedInput], splits: dict[str, np.ndarray]) -> list[SharedItems]:
    """Shared items of every pair of splits of one table, by input. The list is empty if there are none.

    prepared: the inputs of the table by name
    splits: row numbers of each split by name, the training split first
    """
    parts = {name: {part: one.select_rows(rows) for part, rows in splits.items()} for name, one in prepared.items()}
    return [
        finding
        for name, sides in parts.items()
        for first, second in combinations(splits, 2)
        for finding in _finding(name, first, sides[first], second, sides[second])
    ]


def shared_between(tables: dict[str, dict[str, PreparedInput]]) -> list[SharedItems]:
    """Like `shared_items`, for splits that are separate tables: `tables[split][input]`."""
    return [
        finding
        for first, second in combinations(tables, 2)
        for name in tables[first]
        for finding in _finding(name, first, tables[first][name], second, tables[second][name])
    ]


def _finding(name: str, first: str, one: PreparedInput, second: str, other: PreparedInput) -> list[SharedItems]:
    items, rows = overlap(one, other)
    return [SharedItems(name, (first, second), items, rows)] if items else []
