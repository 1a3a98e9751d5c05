"""Store of decoded media: content-addressed, memory-mapped, shared by runs and processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from polymodal.core.caller import warn_caller
from polymodal.core.paths import CacheWarning, cache_writes
from polymodal.data.store.eviction import cache_budget, enforce_budget, remove_pack
from polymodal.data.store.items import pad_ragged
from polymodal.data.store.pack import DamagedPackError, FieldTypes, Pack

#: Version of the files of a pack, a part of the name of every store.
FORMAT = 2


def content_key(data: bytes) -> bytes:
    """A 16-byte key of `data`: its 128-bit xxh3 hash with its size as the seed."""
    return xxhash.xxh3_128(data, seed=len(data)).digest()


class MediaStore:
    """Decoded items of one layout, addressed by the content key of the encoded bytes.

    folder: the folder of all stores, which share one size limit (`eviction`)
    layout: dtype and shape of one record, by field
    preparation: everything that changes the decoded items, as text. Another text addresses another store
    ragged: an item has any number of records, each field `[records, ...]`; otherwise one record, each field as in
        `layout`
    kind: readable name of the contents, the first part of the folder's name

    Items are in packs (`pack.Pack`), and several processes may add to a store at the same time. Items that this process
    has asked for (`contains`, `open`) or added stay while the store and its items are in use. Any process may evict the
    others at any time; the store then no longer contains them.

    A process compares the records of a pack with their checksum before it uses them. A damaged pack is removed with a
    `CacheWarning` that names it, and its items count as not stored: they are decoded (or computed) and stored again.

    Raises:
        PolymodalError: the size limit set by the environment is not a positive number.
    """

    def __init__(
        self,
        folder: Path,
        layout: Mapping[str, tuple[str, tuple[int, ...]]],
        preparation: str,
        ragged: bool,
        kind: str = "media",
    ) -> None:
        described = json.dumps([FORMAT, sorted((name, *field) for name, field in layout.items()), ragged, preparation])
        self.root = Path(folder)
        self.description = {"layout": dict(layout), "preparation": preparation, "ragged": ragged, "media": kind}
        self.folder = self.root / f"{kind}-{xxhash.xxh3_128_hexdigest(described.encode())}"
        self.fields: FieldTypes = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in layout.items()}
        self.ragged, self.budget = ragged, cache_budget()
        self._packs: list[Pack] = []
        self._first = [0]
        self._seen: set[str] = set()
        self._position: dict[bytes, int] = {}

    def contains(self, keys: list[bytes]) -> np.ndarray:
        """`[len(keys)]` bool: which items are in the store, including those of other processes.

        Raises:
            DataError: this process may not open more files.
            PolymodalError: the folder of the store cannot be created.
        """
        self._refresh()
        positions = [self._position[key] for key in keys if key in self._position]
        lost = {pack.name for pack in self._packs_of(np.array(positions, np.int64)) if not self._open(pack)}
        if lost:
            self._forget(lost)
            return self.contains(keys)
        return np.array([key in self._position for key in keys], dtype=bool)

    def add(self, keys: list[bytes], items: list[dict[str, np.ndarray]]) -> None:
        """Store `items` under `keys` as one pack. Existing items are skipped. Then the least recently used packs, of
        any store in the folder, are evicted down to the size limit.

        Raises:
            ValueError: an item does not have the layout of this store.
            PolymodalError: the folder cannot be written to.
        """
        for item in items:
            self._check(item)
        known = self.contains(keys)
        new = {key: item for key, item, old in zip(keys, items, known, strict=True) if not old}
        if not new:
            return
        records = list(new.values())
        if not self.ragged:
            records = [{name: array[None] for name, array in item.items()} for item in records]
        self._register(Pack.write(self.folder, list(new), records, self.fields))
        enforce_budget(self.root, self.budget)

    def open(self, keys: list[bytes]) -> StoreItems:
        """Items in the order of `keys`. Nothing is read yet.

        Raises:
            KeyError: an item is not in the store.
        """
        known = self.contains(keys)
        if not known.all():
            raise KeyError(keys[int(np.argmin(known))])
        positions = np.array([self._position[key] for key in keys], np.int64)
        number = np.searchsorted(self._first, positions, side="right") - 1
        inside = positions - np.array(self._first)[number]
        starts, counts = np.zeros(len(keys), np.int64), np.ones(len(keys), np.int64)
        for one in np.unique(number):
            here = number == one
            starts[here] = self._packs[one].starts[inside[here]]
            counts[here] = self._packs[one].counts[inside[here]]
        return StoreItems(self, self._packs, number, starts, counts)

    def _check(self, item: dict[str, np.ndarray]) -> None:
        lengths = {len(array) for array in item.values()} if self.ragged else {1}
        for name, (dtype, shape) in self.fields.items():
            array = item.get(name)
            if array is None or array.dtype != dtype or array.shape[self.ragged :] != shape or len(lengths) != 1:
                found = None if array is None else f"{array.dtype} {list(array.shape)}"
                raise ValueError(f"the field {name!r} of an item is {found}, but records are {dtype} {list(shape)}")

    def _refresh(self) -> None:
        """Register the packs that have appeared since the last call."""
        with cache_writes(self.root):
            self.folder.mkdir(parents=True, exist_ok=True)
        names = {entry.name[: -len(".keys")] for entry in os.scandir(self.folder) if entry.name.endswith(".keys")}
        for name in sorted(names - self._seen):
            try:
                pack = Pack.read(self.folder, name)
            except DamagedPackError:
                self._remove(name)
                continue
            if pack is not None:
                self._register(pack)

    def _open(self, pack: Pack) -> bool:
        """Whether the pack is there and whole; it is open then."""
        try:
            return pack.open(self.fields)
        except DamagedPackError:
            pass  # the exception holds the mapping, and its lock, until here
        self._remove(pack.name)
        return False

    def _remove(self, name: str) -> None:
        """Remove a damaged pack, with a warning. This process ignores the pack if it cannot be removed."""
        self._seen.add(name)
        removed = remove_pack(self.folder, name)
        warn_caller(
            f"{self.folder / name}.* in the cache is damaged: its items are not used, and are decoded or computed "
            f"again{'' if removed else '; delete these files, which this process cannot do'}",
            CacheWarning,
        )

    def _register(self, pack: Pack) -> None:
        start = self._first[-1]
        for at, key in enumerate(pack.keys, start):
            self._position.setdefault(key, at)
        self._packs.append(pack)
        self._first.append(start + len(pack.keys))
        self._seen.add(pack.name)

    def _packs_of(self, positions: np.ndarray) -> list[Pack]:
        return [self._packs[one] for one in np.unique(np.searchsorted(self._first, positions, side="right") - 1)]

    def _forget(self, names: set[str]) -> None:
        """Remove evicted packs. The positions of the other packs stay unchanged, since `StoreItems` refer to them."""
        self._position.clear()
        for pack, start in zip(self._packs, self._first[:-1], strict=True):
            if pack.name in names:
                pack.keys = []
            for at, key in enumerate(pack.keys, start):
                self._position.setdefault(key, at)


@dataclass(frozen=True)
class StoreItems:
    """Selected items of a store as the items of one input. Nothing is read before `take`.

    packs: packs of the store. Item i is `counts[i]` records starting at `starts[i]` in `packs[pack[i]]`
    """

    store: MediaStore
    packs: list[Pack]
    pack: np.ndarray
    starts: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.pack)

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Each field of the items `ids [n]`: `[n, ...]`; for a ragged store `[n, longest, ...]` padded with zeros,
        and `length [n]` int64."""
        pack, starts, counts = self.pack[ids], self.starts[ids], self.counts[ids]
        used = np.unique(pack)
        longest = int(counts.max(initial=1))
        taken = {}
        for name, (dtype, shape) in self.store.fields.items():
            if len(used) == 1:
                taken[name] = self._gather(name, used[0], starts, counts, longest)
                continue
            taken[name] = np.empty((len(ids), *((longest,) if self.store.ragged else ()), *shape), dtype)
            for one in used:
                here = np.flatnonzero(pack == one)
                taken[name][here] = self._gather(name, one, starts[here], counts[here], longest)
        return taken | {"length": counts} if self.store.ragged else taken

    def _gather(self, name: str, pack: int, starts: np.ndarray, counts: np.ndarray, longest: int) -> np.ndarray:
        arrays = self.packs[pack].arrays
        assert arrays is not None, "packs are opened before items are returned"
        if self.store.ragged:
            return pad_ragged(arrays[name], starts, counts, longest, 0)
        return np.take(arrays[name], starts, axis=0)

    def lengths(self) -> np.ndarray | None:
        """Records of every item (int32); None if every item is one record."""
        return self.counts.astype(np.int32) if self.store.ragged else None

    def item_bytes(self) -> float:
        record = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in self.store.fields.values())
        return record * (float(self.counts.mean()) if len(self.counts) else 1.0)

    def open_keys(self, keys: list[bytes]) -> StoreItems:
        """Other items of the same store; see `writer.StoreBacked`."""
        return self.store.open(keys)
