"""Text targets: cells with a text or several references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polymodal.modalities.text import parse_text


class TextTarget(NamedTuple):
    """A prepared text target.

    ids: int32 token ids, with the end token last unless truncated
    references: the texts that count as correct; the first is the training target
    """

    ids: np.ndarray
    references: tuple[str, ...]


def read_references(cell: Any) -> tuple[str, ...]:
    """Texts of a cell (a text or a list of texts), without surrounding whitespace; () if all are blank.

    Raises:
        ValueError: a value is not a text.
    """
    items = list(cell) if isinstance(cell, list | tuple | np.ndarray) else [cell]
    texts = []
    for item in items:
        text = parse_text(item)
        if text is None:
            raise ValueError(f"expected a text, not {type(item).__name__}")
        if text:
            texts.append(text)
    return tuple(texts)


def mask_targets(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Remove the tokens of the targets in `rows [n]` bool: they are scored, but not trained on."""
    return object_array(
        [
            target._replace(ids=target.ids[:0]) if is_masked else target
            for target, is_masked in zip(targets, rows, strict=True)
        ]
    )


def pad(sequences: Sequence[np.ndarray | None]) -> Tensor:
    """Pad sequences with -1 to `[rows, longest]` int64; None becomes a row of -1."""
    longest = max((len(ids) for ids in sequences if ids is not None), default=0)
    padded = np.full((len(sequences), longest), -1, np.int64)
    for row, ids in zip(padded, sequences, strict=True):
        if ids is not None:
            row[: len(ids)] = ids
    return torch.from_numpy(padded)


def object_array(values: Sequence[Any]) -> np.ndarray:
    """One-dimensional object array of these values."""
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array
