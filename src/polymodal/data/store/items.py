"""Prepared rows of one input: the items, the item of each row, and the interface of a store of items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Items(Protocol):
    """Distinct prepared items of one input, in memory or memory-mapped."""

    def __len__(self) -> int: ...

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """The items `ids [n]` as arrays `[n, ...]`. Ragged items are padded to the longest."""
        ...

    def lengths(self) -> np.ndarray | None:
        """Length of every item (int32), or None if all items have the same length."""
        ...

    def item_bytes(self) -> float:
        """Average bytes of an item, which bounds batches in inference."""
        ...


class Store(Protocol):
    """Decoded or computed items by content key.

    This is the whole interface that readers and writers use, so that a remote store can replace `store.MediaStore`.
    """

    def contains(self, keys: list[bytes]) -> np.ndarray:
        """`[len(keys)]` bool: which items are in the store. Items reported once to this process stay."""
        ...

    def add(self, keys: list[bytes], items: list[dict[str, np.ndarray]]) -> None:
        """Store `items` under `keys`. Existing items are not replaced."""
        ...

    def open(self, keys: list[bytes]) -> Items:
        """Items in the order of `keys`, which must all exist (KeyError). They implement `writer.StoreBacked`."""
        ...


@dataclass(frozen=True)
class FixedItems:
    """Items of equal shape: arrays `[items, ...]` by name."""

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
    """Concatenated sequences of different lengths: item i is `array[starts[i]:starts[i + 1]]` of each array.

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
            name: pad_ragged(array, self.starts[ids], length, longest, self.pad) for name, array in self.arrays.items()
        }
        return taken | {"length": length.astype(np.int64)}

    def lengths(self) -> np.ndarray:
        return np.diff(self.starts).astype(np.int32)

    def item_bytes(self) -> float:
        return sum(array.nbytes for array in self.arrays.values()) / max(1, len(self))


@dataclass(frozen=True)
class SelectedItems:
    """Some of the items of `source`: item i is item `ids[i]` there."""

    source: Items
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        return self.source.take(self.ids[ids])

    def lengths(self) -> np.ndarray | None:
        lengths = self.source.lengths()
        return None if lengths is None else lengths[self.ids]

    def item_bytes(self) -> float:
        return self.source.item_bytes()


@dataclass(frozen=True)
class JoinedItems:
    """Items with additional parts: item i is item i of `main` and of every part. The parts may have lengths of their
    own.

    `take` returns the arrays of `main`, and those of the parts in `taken`, named `<part>_<array>`. Their lengths are
    `<part>_length`. Other parts are stored, but not read.

    Example:
        >>> tokens = RaggedItems({"values": np.array([5, 6, 7])}, np.array([0, 1, 3]))
        >>> ngrams = RaggedItems({"ids": np.array([8, 9])}, np.array([0, 2, 2]))
        >>> items = JoinedItems(tokens, {"ngram": ngrams}, taken=("ngram",))
        >>> {name: array.tolist() for name, array in items.take(np.array([0])).items()}
        {'values': [[5]], 'length': [1], 'ngram_ids': [[8, 9]], 'ngram_length': [2]}
    """

    main: Items
    parts: dict[str, Items]
    taken: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.main)

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        arrays = self.main.take(ids)
        for part in self.taken:
            arrays |= {f"{part}_{name}": array for name, array in self.parts[part].take(ids).items()}
        return arrays

    def lengths(self) -> np.ndarray | None:
        return self.main.lengths()

    def item_bytes(self) -> float:
        return self.main.item_bytes() + sum(self.parts[part].item_bytes() for part in self.taken)


def pad_ragged(array: np.ndarray, starts: np.ndarray, length: np.ndarray, longest: int, pad: float) -> np.ndarray:
    """`[n, longest, ...]`: the segments `array[start:start + length]`, padded with `pad`."""
    shape = (len(starts), longest, *array.shape[1:])
    if longest >= 512:  # for long segments (audio, video), copying is faster than fancy indexing
        filled = np.full(shape, pad, array.dtype)
        for row, start, count in zip(filled, starts, length, strict=True):
            row[:count] = array[start : start + count]
        return filled
    offset = np.arange(longest)
    real = offset < length[:, None]
    position = np.where(real, starts[:, None] + offset, 0)
    filled = array[position] if len(array) else np.zeros(shape, array.dtype)
    filled[~real] = pad
    return filled


@dataclass(frozen=True)
class PreparedInput:
    """The prepared rows of one input.

    index: `[rows]` int64, the item of each row, -1 if the input is missing in the row
    items: the distinct items
    content_keys: one content key per item (bytes), by which blocks share items; None if items are never shared
    """

    index: np.ndarray
    items: Items
    content_keys: list[bytes] | None = None

    def select_rows(self, rows: np.ndarray) -> PreparedInput:
        """The same items with only `rows` of the index."""
        return PreparedInput(self.index[rows], self.items, self.content_keys)
