"""Base class of modalities. A modality is one type of input: it matches columns, fits their preparation, and
prepares them."""

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

    @property
    def has_augmentation(self) -> bool:
        """Whether training batches are changed at random under these options."""
        return False


class Modality(ABC):
    """Base of every modality. One instance serves one input of a recipe (one or more columns).

    The methods are called in this order: `match_column` (class method, on a sample of a column) -> `resolve` (fill
    unset options from the sample) -> `fit` (training rows only) -> `prepare` (any rows, block by block) -> `collate` (a
    batch of distinct items -> tensors). `save` and `load` store and restore the fitted state.

    Example:
        A modality of yes/no cells, on two rows:

        >>> from polymodal.data.store.items import FixedItems
        >>> from polymodal.data.table.cell_errors import CellErrors
        >>> class YesNo(Modality):
        ...     Options = ModalityOptions
        ...     default_encoder = "linear"
        ...
        ...     @classmethod
        ...     def match_column(cls, sample):
        ...         return Match(0.9, "yes and no") if set(sample.values) <= {"yes", "no"} else None
        ...
        ...     def fit(self, blocks):
        ...         pass
        ...
        ...     def prepare(self, block):
        ...         values = np.array([[cell == "yes"] for cell in block.cells(self.columns[0])], np.float32)
        ...         return PreparedInput(np.arange(len(values)), FixedItems({"values": values}))
        ...
        ...     def shape(self):
        ...         return {"columns": 1}
        ...
        ...     def save(self, folder):
        ...         return {}
        ...
        ...     def load(self, folder, state):
        ...         pass
        >>> block = RowBlock({"paid": ["yes", "no"]}, np.arange(2), None, "table", CellErrors(), LimitOptions())
        >>> modality = YesNo(ModalityOptions(name="yes_no"), columns=["paid"])
        >>> modality.collate(modality.prepare(block).items.take(np.arange(2)))
        {'values': tensor([[1.],
                [0.]])}
    """

    kind: ClassVar[str] = "modality"
    Options: ClassVar[type[ModalityOptions]]
    default_encoder: ClassVar[str]
    #: True if one input may have several columns (numbers, categories). `group_columns` decides when they are grouped.
    many_columns: ClassVar[bool] = False
    #: Options that shift events in time relative to the file, with the value that does not.
    time_preserving_options: ClassVar[dict[str, Any]] = {}
    #: The corruptions that `corrupt` supports, for robustness tests.
    corruptions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: ModalityOptions, *, columns: list[str]) -> None:
        self.options, self.columns = options, columns

    @classmethod
    @abstractmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        """How well the column fits this modality, and why; None if it does not."""

    @classmethod
    def group_columns(cls, samples: list[ColumnSample]) -> bool:
        """Whether automatic planning makes one input of these columns, which all match this modality, or one input
        per column."""
        return cls.many_columns

    @classmethod
    def resolve(cls, options: Any, samples: list[ColumnSample]) -> Any:
        """Options with every value that depends on the data filled in (image size, maximum length ...)."""
        return options

    @abstractmethod
    def fit(self, blocks: Iterable[RowBlock]) -> None:
        """Fit to the training rows (vocabulary, statistics). Called once, before `prepare`."""

    def unlearned_columns(self) -> dict[str, str]:
        """The columns from which `fit` learned nothing, so that all their cells are alike for the encoder, with the
        reason; none if cells need no fitted state."""
        return {}

    @abstractmethod
    def prepare(self, block: RowBlock) -> PreparedInput:
        """Prepare one block of rows. A cell that cannot be used is reported to `block.errors` and counts as missing."""

    @abstractmethod
    def shape(self) -> dict[str, Any]:
        """Description of the prepared tensors for encoders, JSON-ready. Call after `fit`."""

    def collate(self, items: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """Convert arrays of distinct items `[items, ...]` to the tensors that the encoder reads."""
        return {name: torch.from_numpy(array) for name, array in items.items()}

    def is_cell(self, value: Any) -> bool | None:
        """Whether a value of a dict is one cell of this modality (True) or a column of cells (False); None if it may be
        either."""
        return isinstance(value, str | bytes) or not hasattr(value, "__len__")

    def fingerprint(self, limits: LimitOptions) -> str | None:
        """Everything except a cell's content that changes its prepared item (options, fitted state, limits), as
        text. None if items have no content keys, so that nothing computed from them can be cached."""
        return None

    @property
    def has_augmentation(self) -> bool:
        """Whether `augment` has an effect under these options."""
        return self.options.has_augmentation

    def augment(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Random augmentation of a training batch, drawn from torch's global generator. Never changes `data` in
        place."""
        return data

    def corrupt(
        self, items: dict[str, np.ndarray], kind: str, strength: float, draw: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Prepared items, as returned by `Items.take`, corrupted by one of `corruptions`. Never changes `items` in
        place.

        strength: from 0 (barely changed) to 1 (hard to use for a human)
        """
        raise ValueError(f"{kind!r} is not a corruption of {type(self).__name__.lower()}")

    def shortened(self, prepared: PreparedInput) -> str:
        """How many of the prepared items do not hold their cell as a whole, because it is longer than a limit, and what
        was done; "" if none. One sentence with the option that sets the limit."""
        return ""

    def preview(self, item: dict[str, np.ndarray]) -> PIL.Image.Image | None:
        """An image of one prepared item (arrays `[length, ...]` of `Items.take`, without padding), for reports; None
        if the cell itself is more readable."""
        return None

    def row_bytes(self) -> float:
        """Maximum bytes of one prepared item, which bounds blocks of rows. 0: negligible."""
        return 0.0

    #: The structure of the saved state, which is checked before `load`.
    state_type: ClassVar[Any] = dict[str, Any]

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """Write large state (a tokenizer) into `folder` and return the rest, JSON-ready."""

    @abstractmethod
    def load(self, folder: Path, state: dict[str, Any]) -> None:
        """Restore the state written by `save`, instead of `fit`."""

    def describe(self) -> str:
        """The fitted state in one line, for reports (vocabulary size, image size ...)."""
        return ""
