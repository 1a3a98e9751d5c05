"""Prepared rows of one input: which item each row has, the items, and what a store of items is."""

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

    def item_bytes(self) -> float:
        """Bytes of one item on average; batches for inference are bounded by it."""
        ...


class Store(Protocol):
    """Decoded or computed items kept by the key of their content: all that readers and writers ask of a store, so that
    one that lies elsewhere than on this machine's disk (`store.MediaStore`) can take its place."""

    def known(self, keys: list[bytes]) -> np.ndarray:
        """`[len(keys)]` bool: which items are there. What was once known to this process stays."""
        ...

    def add(self, keys: list[bytes], items: list[dict[str, np.ndarray]]) -> None:
        """Keep `items` under `keys`; what is known already is left as it is."""
        ...

    def open(self, keys: list[bytes]) -> Items:
        """Items in the order of `keys`, which are all known (KeyError); they have `view` (`writer.Stored`)."""
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

    def item_bytes(self) -> float:
        return sum(array.nbytes for array in self.arrays.values()) / max(1, len(self))


@dataclass(frozen=True)
class RaggedItems:
    """Sequences of different lengths, end to end: item i is `array[starts[i]:starts[i + 1]]` of each array.

    `take` returns each array `[n, longest, ...]` padded with `pad`, and `length [n]` int64.
    """

    arrays: dict[str, np.ndarray]
    starts: np.ndarray
    pad: float = 0

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        length = self.starts[ids + 1] - self.starts[ids]
        longest = int(length.max(initial=1))
        taken = {
            name: padded(array, self.starts[ids], length, longest, self.pad) for name, array in self.arrays.items()
        }
        return taken | {"length": length.astype(np.int64)}

    def lengths(self) -> np.ndarray:
        return np.diff(self.starts).astype(np.int32)

    def item_bytes(self) -> float:
        return sum(array.nbytes for array in self.arrays.values()) / max(1, len(self))


def padded(array: np.ndarray, starts: np.ndarray, length: np.ndarray, longest: int, pad: float) -> np.ndarray:
    """`[n, longest, ...]`: the runs `array[start:start + length]`, padded with `pad`."""
    shape = (len(starts), longest, *array.shape[1:])
    if longest >= 512:  # long runs (sound, clips): copying each beats an index for every element
        filled = np.full(shape, pad, array.dtype)
        for row, start, count in zip(filled, starts, length, strict=True):
            row[:count] = array[start : start + count]
        return filled
    offset = np.arange(longest)
    real = offset < length[:, None]
    place = np.where(real, starts[:, None] + offset, 0)
    filled = array[place] if len(array) else np.zeros(shape, array.dtype)
    filled[~real] = pad
    return filled


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
