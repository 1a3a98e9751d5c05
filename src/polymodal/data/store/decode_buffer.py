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
        self.pending: dict[bytes, Item] = {}
        self.pending_bytes = 0

    def missing_keys(self, keys: list[bytes]) -> list[bytes]:
        """Those of `keys` that are not in the store."""
        if self.store is None:
            return keys
        return [key for key, known in zip(keys, self.store.contains(keys), strict=True) if not known]

    def add(self, key: bytes, item: Item) -> None:
        """Add a decoded item. Items are written to the store in groups."""
        self.pending[key] = item
        self.pending_bytes += sum(array.nbytes for array in item.values())
        if self.store is not None and self.pending_bytes >= PACK_BYTES:
            self._flush(self.store)

    def items(self, keys: list[bytes]) -> Items:
        """The items of `keys`, in this order."""
        if self.store is not None:
            self._flush(self.store)
            return self.store.open(keys)
        chosen = [self.pending[key] for key in keys]
        none = {name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in self.layout.items()}
        if not self.ragged:
            return FixedItems(
                {name: np.stack([item[name] for item in chosen]) if chosen else none[name] for name in none}
            )
        lengths = [len(next(iter(item.values()))) for item in chosen]
        arrays = {name: np.concatenate([none[name], *(item[name] for item in chosen)]) for name in none}
        return RaggedItems(arrays, np.cumsum([0, *lengths], dtype=np.int64))

    def _flush(self, store: Store) -> None:
        if self.pending:
            store.add(list(self.pending), list(self.pending.values()))
            self.pending.clear()
            self.pending_bytes = 0
