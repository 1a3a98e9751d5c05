"""The same item on two sides of a split: what a test score must not rest on."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from pydantic.dataclasses import dataclass

from polymodal.core.record import RECORD
from polymodal.data.store.items import Prepared


@dataclass(frozen=True, config=RECORD)
class SharedItems:
    """Distinct items of an `input` that are in both parts of `between`, and the rows of the second that have them."""

    input: str
    between: tuple[str, str]
    items: int
    rows: int


def overlap(one: Prepared, other: Prepared) -> tuple[int, int]:
    """Distinct items of `other` that are in `one` too, and the rows of `other` that have them.

    The items are compared by number when both are rows of one `Prepared` (the same `items`), else by content
    key.
    Items without keys are never shared between two tables.
    """
    if one.items is other.items:
        theirs = np.unique(one.index[one.index >= 0])
        return _count(other.index, np.isin(np.arange(len(other.items)), theirs))
    if one.keys is None or other.keys is None:
        return 0, 0
    known = {one.keys[item] for item in np.unique(one.index[one.index >= 0])}
    return _count(other.index, np.array([key in known for key in other.keys], dtype=bool))


def _count(index: np.ndarray, shared: np.ndarray) -> tuple[int, int]:
    held = index[index >= 0]
    held = held[shared[held]]
    return len(np.unique(held)), len(held)


def shared_items(prepared: dict[str, Prepared], splits: dict[str, np.ndarray]) -> list[SharedItems]:
    """Shared items of every pair of parts of one table, by input; empty when there are none.

    prepared: the table's inputs by name; splits: row numbers of each part by name, the training part first
    """
    parts = {name: {part: one.rows_of(rows) for part, rows in splits.items()} for name, one in prepared.items()}
    return [
        finding
        for name, sides in parts.items()
        for first, second in combinations(splits, 2)
        for finding in _finding(name, first, sides[first], second, sides[second])
    ]


def shared_between(tables: dict[str, dict[str, Prepared]]) -> list[SharedItems]:
    """As `shared_items` for parts that are separate tables: `tables[part][input]`."""
    return [
        finding
        for first, second in combinations(tables, 2)
        for name in tables[first]
        for finding in _finding(name, first, tables[first][name], second, tables[second][name])
    ]


def _finding(name: str, first: str, one: Prepared, second: str, other: Prepared) -> list[SharedItems]:
    items, rows = overlap(one, other)
    return [SharedItems(name, (first, second), items, rows)] if items else []
