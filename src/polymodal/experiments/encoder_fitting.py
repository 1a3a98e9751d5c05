"""Fitting of encoders with fixed state to training items, before the first step."""

from __future__ import annotations

import numpy as np

from polymodal.data.partition import Split
from polymodal.nn.network import Network
from polymodal.preparation.item_sample import sample_items
from polymodal.preparation.preparation import Preparation, PreparedTable


def fit_encoders(network: Network, preparation: Preparation, train: Split[PreparedTable], seed: int) -> None:
    """Fit every encoder that is not fitted yet to items of the training rows, without augmentation. An input without
    any training item stays as it is."""
    for name, encoder in network.encoders().items():
        if encoder.num_fit_items == 0 or encoder.is_fitted:
            continue
        source = train.table.inputs[name]
        items = sample_items(source, train.rows, encoder.num_fit_items, np.random.default_rng(seed))
        if len(items):
            encoder.fit_items(preparation.modalities[name].collate(source.items.take(items)))
