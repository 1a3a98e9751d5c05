"""Base class of the parts of one prepared item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, Self

import numpy as np
import PIL.Image

from polymodal.data.store.items import FixedItems, PreparedInput, RaggedItems

#: The largest number of parts of an item; longer texts and series have larger parts.
MAX_PARTS = 64


class Parts(ABC):
    """The parts of the item that one row has in one input, and this item without some of them.

    labels: the name of each part, in the order of `scores.reshape(-1)`
    shape: the shape of an array with one score per part
    preview: an image of the whole item, in which the parts are equal spans or regions; None for words and columns
    """

    labels: tuple[str, ...]
    shape: tuple[int, ...]
    preview: PIL.Image.Image | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def keep(self, kept: np.ndarray, donor: Self | None = None) -> PreparedInput:
        """The item with only some of its parts, once for each row of `kept [n, parts]` bool.

        donor: the item of another row, whose parts replace the others; None: they are removed or blank
        """

    def tensor_parts(self) -> tuple[str, np.ndarray] | None:
        """The name of the prepared tensor that the parts divide, and the part of each of its numbers, an int64 array
        that broadcasts to `[1, ...]`. None if the prepared tensors are no numbers."""
        return None


def spans(length: int, count: int) -> list[tuple[int, int]]:
    """`[0, length)` in at most `count` spans of nearly equal length.

    Example:
        >>> spans(5, 2)
        [(0, 2), (2, 5)]
    """
    edges = np.linspace(0, length, min(count, length) + 1).astype(int).tolist()
    return list(pairwise(edges))


def fixed(arrays: dict[str, np.ndarray]) -> PreparedInput:
    """Items of equal shape, one for each row."""
    return PreparedInput(np.arange(len(next(iter(arrays.values())))), FixedItems(arrays))


def ragged(arrays: dict[str, np.ndarray]) -> PreparedInput:
    """Items of equally many records, arrays `[n, records, ...]`, one for each row."""
    count, length = next(iter(arrays.values())).shape[:2]
    joined: dict[str, Any] = {name: array.reshape(count * length, *array.shape[2:]) for name, array in arrays.items()}
    return PreparedInput(np.arange(count), RaggedItems(joined, length * np.arange(count + 1)))
