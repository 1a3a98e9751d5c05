"""Fitting of encoders with fixed state to training items, before the first step."""

from __future__ import annotations

import numpy as np

from polymodal.data.partition import Split
from polymodal.data.store.items import PreparedInput
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable

#: Bytes of prepared items that an encoder is fitted to at most.
MAX_BYTES = 64 * 2**20


def fit_encoders(network: Network, preparation: Preparation, train: Split[PreparedTable], seed: int) -> None:
    """Fit every encoder that is not fitted yet to items of the training rows, without augmentation. An input without
    any training item stays as it is."""
    for name, encoder in network.encoders().items():
        if encoder.num_fit_items == 0 or encoder.is_fitted:
            continue
        source = train.table.inputs[name]
        items = _training_items(source, train.rows, encoder.num_fit_items, np.random.default_rng(seed))
        if len(items):
            encoder.fit_items(preparation.modalities[name].collate(source.items.take(items)))


def _training_items(source: PreparedInput, rows: np.ndarray, limit: int, draw: np.random.Generator) -> np.ndarray:
    """The items of the rows, at most `limit` of them at random, in order. The longest item is always among them."""
    items = np.unique(source.index[rows])
    items = items[items >= 0]
    lengths = source.items.lengths()
    longest = items[:0] if lengths is None else items[np.argsort(-lengths[items], kind="stable")[:1]]
    padded = source.items.item_bytes() if lengths is None else _bytes_per_record(source) * lengths[longest].sum()
    limit = max(1, min(limit, int(MAX_BYTES / max(padded, 1.0))))
    if len(items) <= limit:
        return items
    others = np.setdiff1d(items, longest)
    return np.sort(np.concatenate([longest, draw.choice(others, limit - len(longest), replace=False)]))


def _bytes_per_record(source: PreparedInput) -> float:
    lengths = source.items.lengths()
    return source.items.item_bytes() / max(1.0, 0.0 if lengths is None else float(lengths.mean()))
