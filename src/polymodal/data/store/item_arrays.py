"""Prepared items as named arrays, from which they are made again; and items that are spread over groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polymodal.data.store.items import FixedItems, Items, JoinedItems, RaggedItems, pad_ragged

STARTS = "starts"


def to_arrays(items: Items, prefix: str = "") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The form of items as plain values that JSON can hold, and their arrays.

    prefix: begins the names of the arrays

    Example:
        >>> form, arrays = to_arrays(RaggedItems({"values": np.array([5, 6, 7])}, np.array([0, 1, 3])))
        >>> form["kind"], sorted(arrays), from_arrays(form, arrays).take(np.array([1]))["values"].tolist()
        ('ragged', ['starts', 'values'], [[6, 7]])
    """
    if isinstance(items, JoinedItems):
        form, arrays = to_arrays(items.main, f"{prefix}main.")
        parts = {}
        for name, part in items.parts.items():
            parts[name], own = to_arrays(part, f"{prefix}{name}.")
            arrays |= own
        return {"kind": "joined", "main": form, "parts": parts, "taken": list(items.taken)}, arrays
    if isinstance(items, FixedItems | RaggedItems):
        form = {"kind": "fixed", "prefix": prefix, "arrays": list(items.arrays)}
        arrays = {f"{prefix}{name}": array for name, array in items.arrays.items()}
        if isinstance(items, RaggedItems):
            form |= {"kind": "ragged", "pad": items.pad}
            arrays[f"{prefix}{STARTS}"] = items.starts
        return form, arrays
    raise TypeError(f"{type(items).__name__} cannot be written")


def from_arrays(form: dict[str, Any], arrays: dict[str, np.ndarray]) -> Items:
    """The items that `to_arrays` was given."""
    if form["kind"] == "joined":
        parts = {name: from_arrays(part, arrays) for name, part in form["parts"].items()}
        return JoinedItems(from_arrays(form["main"], arrays), parts, tuple(form["taken"]))
    own = {name: arrays[form["prefix"] + name] for name in form["arrays"]}
    if form["kind"] == "fixed":
        return FixedItems(own)
    return RaggedItems(own, arrays[form["prefix"] + STARTS], form["pad"])


@dataclass(frozen=True)
class GroupedItems:
    """The items of several groups, one group after the other. Only the groups of the items that are taken are read.

    starts: `[groups + 1]`, the number of the first item of each group, then the number of items
    read: the items of a group
    item_lengths: the length of every item; None if all are equal
    mean_bytes: mean bytes of an item
    """

    starts: np.ndarray
    read: Callable[[int], Items]
    item_lengths: np.ndarray | None
    mean_bytes: float

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        ids = np.asarray(ids, dtype=np.int64)
        group = np.searchsorted(self.starts, ids, side="right") - 1
        used, place = np.unique(group, return_inverse=True)
        numbers = used.tolist() or [0]
        parts = [self.read(number) for number in numbers]
        return _take(parts, place, ids - self.starts[group])

    def lengths(self) -> np.ndarray | None:
        return self.item_lengths

    def item_bytes(self) -> float:
        return self.mean_bytes


def _take(parts: Sequence[Items], part_of: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The items `ids [n]`, of which item i is in `parts[part_of[i]]`. The parts have items of one type."""
    if len(parts) == 1:
        return parts[0].take(ids)
    if isinstance(parts[0], JoinedItems):
        joined = [part for part in parts if isinstance(part, JoinedItems)]
        arrays = _take([part.main for part in joined], part_of, ids)
        for name in parts[0].taken:
            own = _take([part.parts[name] for part in joined], part_of, ids)
            arrays |= {f"{name}_{key}": array for key, array in own.items()}
        return arrays
    here = [np.flatnonzero(part_of == number) for number in range(len(parts))]
    if isinstance(parts[0], RaggedItems):
        return _take_ragged([part for part in parts if isinstance(part, RaggedItems)], here, ids)
    taken = [part.take(ids[own]) for part, own in zip(parts, here, strict=True)]
    order = np.argsort(np.concatenate(here), kind="stable")
    return {name: np.concatenate([one[name] for one in taken])[order] for name in taken[0]}


def _take_ragged(parts: Sequence[RaggedItems], here: Sequence[np.ndarray], ids: np.ndarray) -> dict[str, np.ndarray]:
    """The items of ragged `parts`, padded to the longest of all; `here` are the positions of the items of each part."""
    length = np.empty(len(ids), np.int64)
    for part, own in zip(parts, here, strict=True):
        length[own] = part.starts[ids[own] + 1] - part.starts[ids[own]]
    longest = int(length.max(initial=1))
    taken = {}
    for name, first in parts[0].arrays.items():
        taken[name] = np.empty((len(ids), longest, *first.shape[1:]), first.dtype)
        for part, own in zip(parts, here, strict=True):
            starts = part.starts[ids[own]]
            taken[name][own] = pad_ragged(part.arrays[name], starts, length[own], longest, part.pad)
    return taken | {"length": length}
