"""Concatenation of the prepared blocks of one input into one `PreparedInput`, in memory or memory-mapped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from polymodal.core.paths import cache_writes
from polymodal.data.store.items import FixedItems, Items, JoinedItems, PreparedInput, RaggedItems


@runtime_checkable
class StoreBacked(Protocol):
    """Items that are already in a store (`store.StoreItems`). The writer does not copy them: it collects the keys of
    all blocks and opens them in the store of the first block."""

    def open_keys(self, keys: list[bytes]) -> Items:
        """Items of the same store, in the order of `keys`."""
        ...


class PreparedWriter:
    """Takes the blocks of one input in row order. Items with equal keys become one item.

    folder: arrays are appended to flat files in this folder as blocks arrive and mapped at the end, so memory holds one
        block. The folder belongs to this input only, and its old files are overwritten. None: everything stays in
        memory
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            with cache_writes(folder):
                folder.mkdir(parents=True, exist_ok=True)
        self._index: list[np.ndarray] = []
        self._keys: list[bytes] = []
        self._position: dict[bytes, int] = {}
        self._count = 0
        self._first: PreparedInput | None = None
        self._writers: dict[str, _ItemsWriter] = {}

    def append(self, block: PreparedInput) -> None:
        """Add the rows of `block` after those of the previous blocks.

        Raises:
            TypeError: the type of its items differs from previous blocks.
            PolymodalError: the folder cannot be written to.
        """
        if self._first is None:
            self._first = block
        items = block.items
        if type(items) is not type(self._first.items) or (block.content_keys is None) != (
            self._first.content_keys is None
        ):
            raise TypeError("the blocks of one input must have items of one type, all with content keys or all without")
        position, new = self._merge(len(items), block.content_keys)
        self._index.append(np.where(block.index >= 0, position[block.index], -1) if len(position) else block.index)
        self._write(items, new, "")

    def _write(self, items: Items, new: np.ndarray, prefix: str) -> None:
        """Write the `new` items; `prefix` begins the names of their files."""
        if isinstance(items, JoinedItems):
            assert self._first is not None
            if prefix == "" and items.parts.keys() != getattr(self._first.items, "parts", items.parts).keys():
                raise TypeError("the blocks of one input must have items with the same parts")
            self._write(items.main, new, prefix)
            for name, part in items.parts.items():
                self._write(part, new, f"{prefix}{name}_")
        elif isinstance(items, FixedItems | RaggedItems):
            self._writers.setdefault(prefix, _ItemsWriter(self.folder, prefix)).append(items, new)
        elif not isinstance(items, StoreBacked):
            raise TypeError(f"{type(items).__name__} can be neither written nor opened by keys")

    def finish(self) -> PreparedInput:
        """All rows and their distinct items.

        Raises:
            ValueError: no block was appended.
        """
        if self._first is None:
            raise ValueError("no block was appended")
        keys = self._keys if self._first.content_keys is not None else None
        return PreparedInput(np.concatenate(self._index).astype(np.int64), self._items(self._first.items, ""), keys)

    def _items(self, first: Items, prefix: str) -> Items:
        if isinstance(first, JoinedItems):
            parts = {name: self._items(part, f"{prefix}{name}_") for name, part in first.parts.items()}
            return replace(first, main=self._items(first.main, prefix), parts=parts)
        if isinstance(first, StoreBacked):
            return first.open_keys(self._keys)
        return self._writers[prefix].finish()

    def _merge(self, count: int, keys: list[bytes] | None) -> tuple[np.ndarray, np.ndarray]:
        """The final number of each item of a block, and which of them are new."""
        before = self._count
        if keys is None:
            self._count += count
            return np.arange(before, before + count), np.ones(count, dtype=bool)
        position = np.empty(count, dtype=np.int64)
        new = np.zeros(count, dtype=bool)
        for i, key in enumerate(keys):
            if key not in self._position:
                self._position[key] = self._count
                self._keys.append(key)
                self._count += 1
                new[i] = True
            position[i] = self._position[key]
        return position, new


class _ItemsWriter:
    """Concatenates items of one kind, in flat files of `folder` whose names begin with `prefix`, or in memory."""

    def __init__(self, folder: Path | None, prefix: str) -> None:
        self.folder, self.prefix = folder, prefix
        self.first: FixedItems | RaggedItems | None = None
        self.arrays: dict[str, _GrowingArray] = {}
        self.lengths: list[np.ndarray] = []

    def append(self, items: FixedItems | RaggedItems, new: np.ndarray) -> None:
        """Add the items where `new [items]` is True."""
        self.first = self.first or items
        if type(items) is not type(self.first) or items.arrays.keys() != self.first.arrays.keys():
            raise TypeError("the blocks of one input must have items of one type with the same arrays")
        if isinstance(items, FixedItems):
            for name, array in items.arrays.items():
                self._array(name, array).append(array if new.all() else array[new])
            return
        lengths = np.diff(items.starts)
        for name, array in items.arrays.items():
            runs = array[items.starts[0] : items.starts[-1]]
            self._array(name, runs).append(runs if new.all() else runs[np.repeat(new, lengths)])
        self.lengths.append(lengths[new])

    def finish(self) -> FixedItems | RaggedItems:
        """All items."""
        arrays = {name: growing.finish() for name, growing in self.arrays.items()}
        if not isinstance(self.first, RaggedItems):
            return FixedItems(arrays)
        starts = np.concatenate([[0], *self.lengths]).cumsum().astype(np.int64)
        return RaggedItems(arrays, starts, self.first.pad)

    def _array(self, name: str, like: np.ndarray) -> _GrowingArray:
        if name not in self.arrays:
            file = self.folder / f"{self.prefix}{name}.bin" if self.folder is not None else None
            self.arrays[name] = _GrowingArray(file, like)
        return self.arrays[name]


class _GrowingArray:
    """An array that grows along its first axis, in a flat file or in memory."""

    def __init__(self, file: Path | None, like: np.ndarray) -> None:
        self.file, self.dtype, self.shape, self.rows = file, like.dtype, like.shape[1:], 0
        self.parts: list[np.ndarray] = []
        if file is not None:
            with cache_writes(file.parent):
                file.unlink(missing_ok=True)  # an older run may still have the old file mapped: never write into it
                file.touch()

    def append(self, array: np.ndarray) -> None:
        if array.dtype != self.dtype or array.shape[1:] != self.shape:
            raise TypeError(
                f"a block has {array.dtype} {array.shape[1:]}, previous blocks have {self.dtype} {self.shape}"
            )
        self.rows += len(array)
        if self.file is None:
            self.parts.append(array)
        else:
            with cache_writes(self.file.parent), open(self.file, "ab") as sink:
                sink.write(np.ascontiguousarray(array).tobytes())

    def finish(self) -> np.ndarray:
        shape = (self.rows, *self.shape)
        if self.file is None:
            return np.concatenate(self.parts)
        if 0 in shape:
            return np.empty(shape, self.dtype)
        return np.memmap(self.file, dtype=self.dtype, mode="r", shape=shape)
