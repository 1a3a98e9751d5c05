"""Buffer for the decoded items of a block, which writes to a store if there is one."""

from __future__ import annotations

import numpy as np

from polymodal.data.store.items import FixedItems, Items, RaggedItems, Store

#: Bytes of decoded items held before they are written to the store: few large packs are read faster than many small.
PACK_BYTES = 256 * 2**20

#: One decoded item: each field with the shape in the layout, or `[records, ...]` for ragged media.
Item = dict[str, np.ndarray]
#: Field name -> dtype and shape of one record.
Layout = dict[str, tuple[str, tuple[int, ...]]]


class DecodeBuffer:
    """Decoded items of a block. They are written to the store, or kept in memory if there is none."""

    def __init__(self, store: Store | None, layout: Layout, ragged: bool) -> None:
        self.store, self.layout, self.ragged = store, layout, ragged
        self.fresh: dict[bytes, Item] = {}
        self.size = 0

    def unknown(self, keys: list[bytes]) -> list[bytes]:
        """Those of `keys` that the store does not have."""
        if self.store is None:
            return keys
        return [key for key, known in zip(keys, self.store.contains(keys), strict=True) if not known]

    def put(self, key: bytes, item: Item) -> None:
        """Take a decoded item; it goes to the store with others."""
        self.fresh[key] = item
        self.size += sum(array.nbytes for array in item.values())
        if self.store is not None and self.size >= PACK_BYTES:
            self._flush(self.store)

    def items(self, keys: list[bytes]) -> Items:
        """The items of `keys`, in this order."""
        if self.store is not None:
            self._flush(self.store)
            return self.store.open(keys)
        chosen = [self.fresh[key] for key in keys]
        none = {name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in self.layout.items()}
        if not self.ragged:
            return FixedItems(
                {name: np.stack([item[name] for item in chosen]) if chosen else none[name] for name in none}
            )
        lengths = [len(next(iter(item.values()))) for item in chosen]
        arrays = {name: np.concatenate([none[name], *(item[name] for item in chosen)]) for name in none}
        return RaggedItems(arrays, np.cumsum([0, *lengths], dtype=np.int64))

    def _flush(self, store: Store) -> None:
        if self.fresh:
            store.add(list(self.fresh), list(self.fresh.values()))
            self.fresh.clear()
            self.size = 0
