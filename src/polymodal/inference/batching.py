"""Batches for inference: as large as memory allows, with little padding, and each shared item encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from polymodal.data.group_sampler import GroupSampler, RowKeys
from polymodal.data.partition import Split
from polymodal.data.sampler import BatchSampler, sequential_batches
from polymodal.generation.config import GenerationConfig
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.tasks.generative import GenerativeTask
from polymodal.tasks.image_generation import ImageGenerationTask

PREDICTION_BATCH_SIZE = 1024
#: Maximum number of values in memory when a batch of texts is generated or scored.
MAX_TEXT_VALUES = 2**26
#: Maximum bytes of prepared items in one inference batch. Activations need tens of times this memory.
MAX_BATCH_BYTES = 32 * 2**20


def iter_batches(split: Split[PreparedTable], size: int) -> Iterator[np.ndarray]:
    """Positions in `split.rows`, in batches of at most `size`, with little padding and shared items together. If rows
    are read in row groups, a batch holds rows of the groups that are open, in their order."""
    groups, (group, lengths) = split.table.row_groups, batch_order(split)
    windows = [np.arange(len(split))] if groups is None else groups.windows(split.rows)
    for here in windows:
        keys = [None if one is None else one[here] for one in (group, lengths)]
        yield from sequential_batches(here, size, *keys)


def drawn_batches(split: Split[PreparedTable], size: int, seed: int, *, group_by_item: bool) -> Sequence[np.ndarray]:
    """Row numbers in random batches of `size`, the same for the same seed: those of the first epoch of a training.

    group_by_item: whether rows that share an item are in one batch
    """
    shared, lengths = batch_order(split)
    keys = RowKeys(shared if group_by_item else None, lengths)
    if split.table.row_groups is not None:
        return GroupSampler(split.rows, size, seed, split.table.row_groups, keys).epoch(0)
    return BatchSampler(split.rows, size, seed, group=keys.group, lengths=keys.lengths).epoch(0)


def limit_batch_size(batch: int, prepared: PreparedTable, network: Network) -> int:
    """`batch` rows, or fewer if the items of the batch would need too much memory."""
    encoders = network.encoders()
    row = sum(
        max(source.items.item_bytes(), encoders[name].item_bytes() if name in encoders else 0.0)
        for name, source in prepared.inputs.items()
    )
    return min(batch, max(1, int(MAX_BATCH_BYTES / max(row, 1.0))))


def max_text_rows(preparation: Preparation, config: GenerationConfig | None = None) -> int:
    """The maximum number of rows in a batch for the generation and scoring of texts and images.

    Each token needs some values for each token of the vocabulary and for each of the `hidden_size` features.

    config: options of text generation; default: those of the recipe
    """
    max_rows = PREDICTION_BATCH_SIZE
    for task in preparation.tasks.values():
        if isinstance(task, GenerativeTask):
            own = config or task.generation_config
            shape, sequences = task.text_shape, max(own.num_beams, own.num_return_sequences)
            length = shape.max_prompt_length + (own.max_new_tokens or shape.max_target_length)
            max_rows = min(max_rows, _token_rows(preparation, shape.vocab_size, length, sequences))
        elif isinstance(task, ImageGenerationTask):
            max_rows = min(max_rows, max_image_rows(preparation, task, 1))
    return max_rows


def max_image_rows(preparation: Preparation, task: ImageGenerationTask, samples: int) -> int:
    """The maximum number of rows in a batch for the generation of `samples` images per row."""
    shape = task.text_shape
    return min(PREDICTION_BATCH_SIZE, _token_rows(preparation, shape.vocab_size, shape.max_target_length, samples))


def _token_rows(preparation: Preparation, vocab_size: int, length: int, sequences: int) -> int:
    """The number of rows with `sequences` sequences of this length whose values fit in memory."""
    kept = 16 * length * preparation.recipe.hidden_size
    return max(1, MAX_TEXT_VALUES // (sequences * (3 * vocab_size + kept)))


def batch_order(split: Split[PreparedTable]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The keys that order the rows of a split: item indices and lengths, `[rows]` or None.

    The first is the item index of the input with the most rows per item; None if no input has at least two rows per
    item on average. The second is the total length of variable-length inputs; None if there are none, or if the first
    is given.
    """
    prepared, rows = split.table, split.rows
    lengths: np.ndarray | None = None
    for source in prepared.inputs.values():
        index = source.index[rows]
        item_lengths = source.items.lengths()
        if item_lengths is not None and np.any(index >= 0):
            own = np.where(index >= 0, item_lengths[index], 0)
            lengths = own if lengths is None else lengths + own
    for value, _ in prepared.targets.values():
        if value.dtype == object:  # texts, which are processed token by token
            own = np.array([len(answer.ids) for answer in value[rows]], dtype=np.int64)
            lengths = own if lengths is None else lengths + own
    name = shared_input(split)
    return (None, lengths) if name is None else (prepared.inputs[name].index[rows], None)


def shared_input(split: Split[PreparedTable]) -> str | None:
    """The input of fixed length with the most rows per item; None if no input has at least two rows per item on
    average. Large items gain most from a batch that holds all of their rows."""
    found, rows_per_item = None, 2.0
    for name, source in split.table.inputs.items():
        index = source.index[split.rows]
        present = index[index >= 0]
        if source.items.lengths() is None and len(present) / max(1, len(np.unique(present))) >= rows_per_item:
            rows_per_item = len(present) / len(np.unique(present))
            found = name
    return found
