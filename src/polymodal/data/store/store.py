"""The store of decoded media: content-addressed, memory-mapped, shared by runs and processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from polymodal.data.store.eviction import keep_budget, media_budget
from polymodal.data.store.items import padded
from polymodal.data.store.pack import Fields, Pack


def content_key(data: bytes) -> bytes:
    """16 bytes that name `data`: its 128-bit xxh3 hash with its size as the seed."""
    return xxhash.xxh3_128(data, seed=len(data)).digest()


class MediaStore:
    """Decoded items of one layout, found by the key of the bytes they were decoded from.

    folder: the folder of all stores, which share one budget of bytes (`eviction`)
    layout: by field, the type and the shape of one record
    preparation: all that changes the decoded items, as text; another text is another store
    ragged: items are any number of records, each field `[records, ...]`; else one record, each field as in `layout`
    kind: what the store holds, for people; the first part of its folder's name

    Items lie in packs (`pack.Pack`), and several processes may add to a store at the same time. What this process has
    asked for (`known`, `open`) or added stays for as long as the store and its items are in use; the rest may be
    evicted by any process at any time, and then simply is not known.

    Raises:
        PolymodalError: the budget that the environment sets is not a positive number.
    """

    def __init__(
        self,
        folder: Path,
        layout: Mapping[str, tuple[str, tuple[int, ...]]],
        preparation: str,
        ragged: bool,
        kind: str = "media",
    ) -> None:
        described = json.dumps([sorted((name, *field) for name, field in layout.items()), ragged, preparation])
        self.root = Path(folder)
        self.folder = self.root / f"{kind}-{xxhash.xxh3_128_hexdigest(described.encode())}"
        self.fields: Fields = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in layout.items()}
        self.ragged, self.budget = ragged, media_budget()
        self._packs: list[Pack] = []
        self._first = [0]
        self._seen: set[str] = set()
        self._place: dict[bytes, int] = {}

    def known(self, keys: list[bytes]) -> np.ndarray:
        """`[len(keys)]` bool: which items are in the store, those of other processes included.

        Raises:
            DataError: a pack is damaged.
        """
        self._refresh()
        places = [self._place[key] for key in keys if key in self._place]
        lost = {pack.name for pack in self._packs_of(np.array(places, np.int64)) if not pack.open(self.fields)}
        if lost:
            self._forget(lost)
            return self.known(keys)
        return np.array([key in self._place for key in keys], dtype=bool)

    def add(self, keys: list[bytes], items: list[dict[str, np.ndarray]]) -> None:
        """Store `items` under `keys` as one pack; what is known already is left out. Afterwards the packs least
        recently used, of any store in the folder, are evicted as far as the budget asks.

        Raises:
            ValueError: an item does not have the layout of this store.
            DataError: a pack is damaged.
        """
        for item in items:
            self._check(item)
        known = self.known(keys)
        new = {key: item for key, item, old in zip(keys, items, known, strict=True) if not old}
        if not new:
            return
        records = list(new.values())
        if not self.ragged:
            records = [{name: array[None] for name, array in item.items()} for item in records]
        self._take_in(Pack.write(self.folder, list(new), records, self.fields))
        keep_budget(self.root, self.budget)

    def open(self, keys: list[bytes]) -> StoreItems:
        """A view whose item i is that of `keys[i]`; nothing is read yet.

        Raises:
            KeyError: an item is not in the store.
            DataError: a pack is damaged.
        """
        known = self.known(keys)
        if not known.all():
            raise KeyError(keys[int(np.argmin(known))])
        places = np.array([self._place[key] for key in keys], np.int64)
        number = np.searchsorted(self._first, places, side="right") - 1
        inside = places - np.array(self._first)[number]
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
                raise ValueError(f"the field {name!r} of an item, {found}, does not fit records {dtype} {list(shape)}")

    def _refresh(self) -> None:
        """Take in the packs that have appeared since the last look."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = {entry.name[: -len(".keys")] for entry in os.scandir(self.folder) if entry.name.endswith(".keys")}
        for name in sorted(names - self._seen):
            pack = Pack.find(self.folder, name)
            if pack is not None:
                self._take_in(pack)

    def _take_in(self, pack: Pack) -> None:
        start = self._first[-1]
        for at, key in enumerate(pack.keys, start):
            self._place.setdefault(key, at)
        self._packs.append(pack)
        self._first.append(start + len(pack.keys))
        self._seen.add(pack.name)

    def _packs_of(self, places: np.ndarray) -> list[Pack]:
        return [self._packs[one] for one in np.unique(np.searchsorted(self._first, places, side="right") - 1)]

    def _forget(self, names: set[str]) -> None:
        """Drop evicted packs; places of the others stay, since views count on them."""
        self._place.clear()
        for pack, start in zip(self._packs, self._first[:-1], strict=True):
            if pack.name in names:
                pack.keys = []
            for at, key in enumerate(pack.keys, start):
                self._place.setdefault(key, at)


@dataclass(frozen=True)
class StoreItems:
    """Chosen items of a store as the items of one input; nothing is read before `take`.

    packs: of the store; item i is `counts[i]` records from `starts[i]` on, in `packs[pack[i]]`
    """

    store: MediaStore
    packs: list[Pack]
    pack: np.ndarray
    starts: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.pack)

    def take(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Each field of the items `ids [n]`: `[n, ...]`, or of a ragged store `[n, longest, ...]` padded with zeros,
        and `length [n]` int64.
        """
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
        assert arrays is not None, "packs are opened before items are handed out"
        if self.store.ragged:
            return padded(arrays[name], starts, counts, longest, 0)
        return np.take(arrays[name], starts, axis=0)

    def lengths(self) -> np.ndarray | None:
        """Records of every item (int32); None where every item is one record."""
        return self.counts.astype(np.int32) if self.store.ragged else None

    def item_bytes(self) -> float:
        record = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in self.store.fields.values())
        return record * (float(self.counts.mean()) if len(self.counts) else 1.0)

    def view(self, keys: list[bytes]) -> StoreItems:
        """Other items of the same store; see `writer.Stored`."""
        return self.store.open(keys)
