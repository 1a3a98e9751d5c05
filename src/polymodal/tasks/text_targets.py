"""Cells that hold texts to be written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polymodal.modalities.text import as_text


class TextTarget(NamedTuple):
    """A prepared answer.

    ids: int32, its tokens, with the end token last unless it was cut
    references: the texts that count as right; the first is the one that is learned
    """

    ids: np.ndarray
    references: tuple[str, ...]


def read_references(cell: Any) -> tuple[str, ...]:
    """The texts of a cell, a text or a list of texts, without blanks around them; () where there are only blank ones.

    Raises:
        ValueError: something in it is no text.
    """
    cells = list(cell) if isinstance(cell, list | tuple | np.ndarray) else [cell]
    found = []
    for one in cells:
        text = as_text(one)
        if text is None:
            raise ValueError(f"a text was expected, not {type(one).__name__}")
        if text:
            found.append(text)
    return tuple(found)


def mask_targets(answers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The answers without tokens in `rows [n]` bool: they are scored, and nothing is learned from them."""
    return object_array(
        [
            answer._replace(ids=answer.ids[:0]) if without else answer
            for answer, without in zip(answers, rows, strict=True)
        ]
    )


def pad(sequences: Sequence[np.ndarray | None]) -> Tensor:
    """`[rows, longest]` int64: the sequences, -1 behind them; a row of -1 where there is none."""
    longest = max((len(one) for one in sequences if one is not None), default=0)
    filled = np.full((len(sequences), longest), -1, np.int64)
    for row, one in zip(filled, sequences, strict=True):
        if one is not None:
            row[: len(one)] = one
    return torch.from_numpy(filled)


def object_array(values: Sequence[Any]) -> np.ndarray:
    """A one-dimensional array that holds these values themselves."""
    array = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        array[place] = value
    return array
