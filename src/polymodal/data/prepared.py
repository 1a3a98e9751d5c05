"""Prepared rows of one input: which item each row has, and the items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Items(Protocol):
    """Distinct prepared items of one input, in memory or memory-mapped."""

    def __len__(self) -> int: ...

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """The items `ids [n]` as arrays `[n, ...]`; ragged ones are padded to the longest of them."""
        ...

    def lengths(self) -> np.ndarray | None:
        """Length of every item (int32), or None where all have one length."""
        ...


@dataclass(frozen=True)
class FixedItems:
    """Items of one shape: arrays `[items, ...]` by name."""

    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.take(array, ids, axis=0) for name, array in self.arrays.items()}

    def lengths(self) -> np.ndarray | None:
        return None


@dataclass(frozen=True)
class RaggedItems:
    """Sequences of different lengths, end to end: item i is `values[starts[i]:starts[i + 1]]`.

    `take` returns `values [n, longest, ...]` padded with `pad`, and `length [n]` int64.
    """

    values: np.ndarray
    starts: np.ndarray
    pad: float = 0

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        length = self.starts[ids + 1] - self.starts[ids]
        longest = int(length.max(initial=1))
        offset = np.arange(longest)
        real = offset < length[:, None]
        place = np.where(real, self.starts[ids][:, None] + offset, 0)
        empty = np.zeros((*place.shape, *self.values.shape[1:]), self.values.dtype)
        padded = self.values[place] if len(self.values) else empty
        padded[~real] = self.pad
        return {"values": padded, "length": length.astype(np.int64)}

    def lengths(self) -> np.ndarray:
        return np.diff(self.starts).astype(np.int32)


@dataclass(frozen=True)
class Prepared:
    """What preparation makes of one input's rows.

    index: `[rows]` int64, the item of each row, -1 where the row lacks the input
    items: the distinct items
    keys: one content key per item (bytes), by which blocks share items; None where items are never shared
    """

    index: np.ndarray
    items: Items
    keys: list[bytes] | None = None

    def rows_of(self, rows: np.ndarray) -> Prepared:
        """The same items with only `rows` of the index."""
        return Prepared(self.index[rows], self.items, self.keys)
