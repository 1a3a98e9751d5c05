"""What a modality is: one kind of input. It recognises its columns, learns how to prepare them, and prepares them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from polymodal.core.options import Options
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.recipe.data import LimitOptions


class ModalityOptions(Options):
    """Base of every modality's options."""


class Modality(ABC):
    """Base of every modality. One instance serves one input of a recipe (one or more columns).

    The life of an instance: `match_column` (class method, on a sample of a column) -> `resolve` (fill silent options from
    the sample) -> `fit` (training rows only) -> `prepare` (any rows, block by block) -> `collate` (a batch of distinct
    items -> tensors). `save` and `load` carry what `fit` learned.
    """

    kind: ClassVar[str] = "modality"
    Options: ClassVar[type[ModalityOptions]]
    default_encoder: ClassVar[str]
    #: True if one input may hold several columns (numbers, categories); `together` says when inference groups them.
    many_columns: ClassVar[bool] = False
    #: Options that move moments away from where they were in the file, and the value with which each does not.
    time_preserving_options: ClassVar[dict[str, Any]] = {}
    #: The kinds of damage that `corrupt` can do, for tests of robustness.
    corruptions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: ModalityOptions, *, columns: list[str]) -> None:
        self.options, self.columns = options, columns

    @classmethod
    @abstractmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        """How likely the column is of this modality, and why; None if it cannot be."""

    @classmethod
    def together(cls, samples: list[ColumnSample]) -> bool:
        """Whether inference makes one input of these columns, all of this modality, or one of each."""
        return cls.many_columns

    @classmethod
    def resolve(cls, options: Any, samples: list[ColumnSample]) -> Any:
        """Options with every value that depends on the data filled in (image size, token limit ...)."""
        return options

    @abstractmethod
    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Learn from the training rows (vocabulary, statistics). Called once, before `prepare`."""

    @abstractmethod
    def prepare(self, block: RowBlock) -> PreparedInput:
        """Prepare one block of rows. A cell that cannot be used goes to `block.faults` and counts as missing."""

    @abstractmethod
    def shape(self) -> dict[str, Any]:
        """What an encoder must know about the prepared tensors, JSON-ready; call after `fit`."""

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """Arrays of distinct items `[items, ...]` -> the tensors that the encoder reads."""
        return {name: torch.from_numpy(array) for name, array in items.items()}

    def identity(self, limits: LimitOptions) -> str | None:
        """Everything besides a cell's content that changes the item it is prepared to (options, what `fit` learned,
        limits), as text; None where items are not named by their content, so that nothing made of them can be kept."""
        return None

    @property
    def changes(self) -> bool:
        """Whether `augment` does anything under these options."""
        return False

    def augment(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Random changes of a training batch, drawn from torch's global generator; never changes `data` in place."""
        return data

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Prepared items, as `Items.take` gives them, damaged by one of `corruptions`; `items` are left as they were.

        strength: from 0 (as good as untouched) to 1 (hard to use for a human)
        """
        raise ValueError(f"{kind!r} is no corruption of {type(self).__name__.lower()}")

    def picture(self, item: dict[str, np.ndarray]) -> PIL.Image.Image | None:
        """What a person looks at of one prepared item (arrays `[length, ...]` of `Items.take`, without padding), for
        reports; None where the cell itself says more."""
        return None

    def row_bytes(self) -> float:
        """Bytes of one prepared item at most; blocks of rows are bounded by it. 0: too few to count."""
        return 0.0

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """Write large state (a tokenizer) into `folder`; return the rest, JSON-ready."""

    @abstractmethod
    def load(self, folder: Path, state: dict[str, Any]) -> None:
        """Take back what `save` wrote, in place of `fit`."""

    def show(self) -> str:
        """One line for reports on what `fit` learned (vocabulary size, image size ...)."""
        return ""
