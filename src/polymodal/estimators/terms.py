"""The terms of the raw predictions of an estimator: one for each feature. They sum to the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from polymodal.features.feature_table import FeatureTable


class TermKey(NamedTuple):
    """The features of a term.

    input: of which input
    block: the number of the block among those of the input; -1: the indicator that the input is missing
    column: the number of the column in the block; -1: the block as a whole (an embedding, or counts of n-grams)
    """

    input: str
    block: int
    column: int


@dataclass(frozen=True)
class Terms:
    """The terms of raw predictions. `start + values.sum(axis=1)` is the raw prediction.

    keys: the features of each term
    values: `[rows, terms, size]` float64
    start: `[size]` float64, the prediction from which the terms start
    """

    keys: tuple[TermKey, ...]
    values: np.ndarray
    start: np.ndarray


@runtime_checkable
class HasTerms(Protocol):
    """An estimator whose raw prediction is a sum of terms."""

    def terms(self, features: FeatureTable) -> Terms:
        """The terms of the raw predictions."""


def block_keys(table: FeatureTable) -> list[tuple[str, int]]:
    """The input and the number within the input of each block, in the order of the blocks."""
    return [(name, at) for name, blocks in table.blocks.items() for at in range(len(blocks))]
