"""Rows with edited items of one input, from several rows of a table, as one table that is predicted at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from polymodal.data.store.items import FixedItems, Items, JoinedItems, PreparedInput, RaggedItems
from polymodal.preparation.preparation import PreparedTable


@dataclass(frozen=True)
class EditedRow:
    """One row of a table, once for each of its edited items.

    inputs: the prepared inputs of the table; row: its position there
    name: the edited input; edited: its items
    """

    inputs: Mapping[str, PreparedInput]
    row: int
    name: str
    edited: PreparedInput

    def __len__(self) -> int:
        return len(self.edited.index)


def edited_table(rows: Sequence[EditedRow]) -> PreparedTable:
    """The edited rows one after the other. All are of one table and edit one input, with items that `can_join` accepts.
    The items of the other inputs are shared, so that each is encoded once."""
    first = rows[0]
    counts = [len(one) for one in rows]
    numbers = np.repeat([one.row for one in rows], counts)
    inputs = {name: replace(one, index=one.index[numbers]) for name, one in first.inputs.items()}
    edited = first.edited if len(rows) == 1 else join_inputs([one.edited for one in rows])
    return PreparedTable(inputs | {first.name: edited}, {}, None, sum(counts))


def join_inputs(inputs: Sequence[PreparedInput]) -> PreparedInput:
    """The rows of several inputs with items of one kind, one after the other."""
    starts = np.cumsum([0, *(len(one.items) for one in inputs[:-1])])
    index = [np.where(one.index >= 0, one.index + start, -1) for one, start in zip(inputs, starts, strict=True)]
    return PreparedInput(np.concatenate(index), _join([one.items for one in inputs]))


def can_join(items: Items) -> tuple[object, ...] | None:
    """What two items must have in common to be joined: their kind, and the names and shapes of their arrays. None for
    items that are not in memory."""
    if isinstance(items, FixedItems):
        return "fixed", *((name, one.shape[1:], one.dtype.str) for name, one in items.arrays.items())
    if isinstance(items, RaggedItems):
        return "ragged", items.pad, *((name, one.shape[1:], one.dtype.str) for name, one in items.arrays.items())
    if isinstance(items, JoinedItems):
        parts = [can_join(items.main), *(can_join(one) for one in items.parts.values())]
        return None if None in parts else ("joined", tuple(items.parts), items.taken, *parts)
    return None


def _join(items: Sequence[Items]) -> Items:
    first = items[0]
    if isinstance(first, JoinedItems):
        joined = [one for one in items if isinstance(one, JoinedItems)]
        parts = {name: _join([one.parts[name] for one in joined]) for name in first.parts}
        return JoinedItems(_join([one.main for one in joined]), parts, first.taken)
    if isinstance(first, RaggedItems):
        ragged = [one for one in items if isinstance(one, RaggedItems)]
        lengths = np.concatenate([np.diff(one.starts) for one in ragged])
        # The arrays of each begin at its first start and end at its last.
        arrays = {
            name: np.concatenate([one.arrays[name][one.starts[0] : one.starts[-1]] for one in ragged])
            for name in first.arrays
        }
        return RaggedItems(arrays, np.concatenate([[0], np.cumsum(lengths)]), first.pad)
    fixed = [one for one in items if isinstance(one, FixedItems)]
    return FixedItems({name: np.concatenate([one.arrays[name] for one in fixed]) for name in fixed[0].arrays})
