"""A random sample of the training items of an input, to which fixed transforms are fitted."""

from __future__ import annotations

import numpy as np

from polymodal.data.store.items import PreparedInput

#: Bytes of the padded items of a sample.
MAX_BYTES = 64 * 2**20


def sample_items(source: PreparedInput, rows: np.ndarray, limit: int, draw: np.random.Generator) -> np.ndarray:
    """At most `limit` of the items of the rows `[n]` at random, in order. The longest item is always among them, and
    all of them padded to its length have at most `MAX_BYTES`."""
    items = np.unique(source.index[rows])
    items = items[items >= 0]
    lengths = source.items.lengths()
    if not len(items):
        return items
    longest = items[:0] if lengths is None else items[np.argsort(-lengths[items], kind="stable")[:1]]
    padding = 1.0 if lengths is None else float(lengths[longest[0]] / max(1.0, lengths.mean()))
    limit = max(1, min(limit, int(MAX_BYTES / max(source.items.item_bytes() * padding, 1.0))))
    if len(items) <= limit:
        return items
    others = np.setdiff1d(items, longest)
    return np.sort(np.concatenate([longest, draw.choice(others, limit - len(longest), replace=False)]))
