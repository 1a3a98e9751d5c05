"""In which batches rows run through a network without gradients: as large as memory allows, padded as little as can be,
and each shared item encoded once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from polymodal.data.partition import Split
from polymodal.data.sampler import sequential_batches
from polymodal.generation.config import GenerationConfig
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.tasks.generative import GenerativeTask

PREDICTION_BATCH_SIZE = 1024
#: Numbers that writing a batch of texts, or judging them, may take at once.
MAX_TEXT_VALUES = 2**26
#: Bytes of prepared items that one inference batch may hold: activations are some tens of times as much.
MAX_BATCH_BYTES = 32 * 2**20


def iter_batches(split: Split[PreparedTable], size: int) -> Iterator[np.ndarray]:
    """Places in `split.rows`, at most `size` together, so that little is padded and shared items run once."""
    yield from sequential_batches(np.arange(len(split)), size, *batch_order(split))


def limit_batch_size(batch: int, prepared: PreparedTable, network: Network) -> int:
    """`batch` rows, or fewer where so many sounds, clips or images at once would take too much memory."""
    encoders = network.encoders()
    row = sum(
        max(source.items.item_bytes(), encoders[name].item_bytes() if name in encoders else 0.0)
        for name, source in prepared.inputs.items()
    )
    return min(batch, max(1, int(MAX_BATCH_BYTES / max(row, 1.0))))


def max_text_rows(preparation: Preparation, writing: GenerationConfig | None = None) -> int:
    """The most rows whose texts are written or judged at once, as `writing` or else the recipe says: each token has a
    number for every token of the vocabulary, and each step keeps some for every number of the common width."""
    most = PREDICTION_BATCH_SIZE
    for task in preparation.tasks.values():
        if isinstance(task, GenerativeTask):
            own = writing or task.writing
            shape, beside = task.text_shape, max(own.num_beams, own.num_return_sequences)
            kept = 16 * (shape.prompt + (own.max_new_tokens or shape.answer)) * preparation.recipe.hidden_size
            most = min(most, max(1, MAX_TEXT_VALUES // (beside * (3 * shape.vocabulary + kept))))
    return most


def batch_order(split: Split[PreparedTable]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """How to order the rows of a split: the item index of the most shared input (None if nothing is shared by two rows
    on average), and otherwise the summed length of ragged inputs (None if there is none)."""
    prepared, rows = split.table, split.rows
    shared, most = None, 2.0
    lengths: np.ndarray | None = None
    for source in prepared.inputs.values():
        index = source.index[rows]
        present = index[index >= 0]
        if len(present) == 0:
            continue
        item_lengths = source.items.lengths()
        if item_lengths is not None:
            own = np.where(index >= 0, item_lengths[index], 0)
            lengths = own if lengths is None else lengths + own
        elif len(present) / len(np.unique(present)) >= most:  # sharing saves most where items are large
            most = len(present) / len(np.unique(present))
            shared = index
    for value, _ in prepared.targets.values():
        if value.dtype == object:  # texts, which are written or learned token by token
            own = np.array([len(answer.ids) for answer in value[rows]], dtype=np.int64)
            lengths = own if lengths is None else lengths + own
    return shared, None if shared is not None else lengths
