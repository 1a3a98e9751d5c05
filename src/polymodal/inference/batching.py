"""Batches for inference: as large as memory allows, with little padding, and each shared item encoded once."""

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
#: Maximum number of values in memory when a batch of texts is generated or scored.
MAX_TEXT_VALUES = 2**26
#: Maximum bytes of prepared items in one inference batch. Activations need tens of times this memory.
MAX_BATCH_BYTES = 32 * 2**20


def iter_batches(split: Split[PreparedTable], size: int) -> Iterator[np.ndarray]:
    """Positions in `split.rows`, in batches of at most `size`, with little padding and shared items together."""
    yield from sequential_batches(np.arange(len(split)), size, *batch_order(split))


def limit_batch_size(batch: int, prepared: PreparedTable, network: Network) -> int:
    """`batch` rows, or fewer if the items of the batch would need too much memory."""
    encoders = network.encoders()
    row = sum(
        max(source.items.item_bytes(), encoders[name].item_bytes() if name in encoders else 0.0)
        for name, source in prepared.inputs.items()
    )
    return min(batch, max(1, int(MAX_BATCH_BYTES / max(row, 1.0))))


def max_text_rows(preparation: Preparation, config: GenerationConfig | None = None) -> int:
    """The maximum number of rows in a batch for text generation and scoring.

    Each token needs some values for each token of the vocabulary and for each of the `hidden_size` features.

    config: generation options; default: those of the recipe
    """
    max_rows = PREDICTION_BATCH_SIZE
    for task in preparation.tasks.values():
        if isinstance(task, GenerativeTask):
            own = config or task.generation_config
            shape, sequences = task.text_shape, max(own.num_beams, own.num_return_sequences)
            kept = (
                16
                * (shape.max_prompt_length + (own.max_new_tokens or shape.max_target_length))
                * preparation.recipe.hidden_size
            )
            max_rows = min(max_rows, max(1, MAX_TEXT_VALUES // (sequences * (3 * shape.vocab_size + kept))))
    return max_rows


def batch_order(split: Split[PreparedTable]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The keys that order the rows of a split: item indices and lengths, `[rows]` or None.

    The first is the item index of the input with the most rows per item; None if no input has at least two rows per
    item on average. The second is the total length of variable-length inputs; None if there are none, or if the first
    is given.
    """
    prepared, rows = split.table, split.rows
    shared, rows_per_item = None, 2.0
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
        elif len(present) / len(np.unique(present)) >= rows_per_item:  # large items, which gain most
            rows_per_item = len(present) / len(np.unique(present))
            shared = index
    for value, _ in prepared.targets.values():
        if value.dtype == object:  # texts, which are processed token by token
            own = np.array([len(answer.ids) for answer in value[rows]], dtype=np.int64)
            lengths = own if lengths is None else lengths + own
    return shared, None if shared is not None else lengths
