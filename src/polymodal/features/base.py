"""Base class of featurizers: the prepared items of one input become columns for estimators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from polymodal.core.options import Options
from polymodal.data.store.items import PreparedInput
from polymodal.features.feature_table import FeatureBlock
from polymodal.modalities.base import Modality
from polymodal.nn.encoders.base import Encoder
from polymodal.preparation.feature_cache import FeatureSettings
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.training import FeatureCacheOptions


class FeaturizerOptions(Options):
    """Base of every featurizer's options."""


@dataclass(frozen=True)
class FeatureSource:
    """The input that a featurizer reads.

    modality: its fitted modality, which prepared the items
    encoder: its encoder, if its checkpoint is frozen and the featurizer needs it; None otherwise
    has_checkpoint: whether its encoder has a frozen checkpoint
    settings: options of the feature cache
    cache: folder of the feature cache; None keeps features in memory
    """

    modality: Modality
    encoder: Encoder | None = None
    settings: FeatureSettings = field(default_factory=lambda: FeatureSettings(FeatureCacheOptions(), LimitOptions()))
    cache: Path | None = None
    has_checkpoint: bool = False

    @property
    def shape(self) -> dict[str, Any]:
        """The shape of the prepared items, as encoders get it."""
        return self.modality.shape()


class Featurizer(ABC):
    """Base of every featurizer. One instance serves one input.

    `fit` sees training rows only and never a target. The features of an item depend on nothing but the item and the
    fitted state, so they are the same in every table and batch.

    Subclasses define `Options`, `modalities` and the abstract methods, and are registered with `register`. The names of
    the arrays of `save` have no `/`.
    """

    kind: ClassVar[str] = "featurizer"
    Options: ClassVar[type[FeaturizerOptions]]
    #: The modalities whose items it reads.
    modalities: ClassVar[tuple[str, ...]]
    #: The modalities that have these features by default, and those that have them if the checkpoint of a pretrained
    #: encoder is frozen (None: the same).
    default_for: ClassVar[tuple[str, ...]] = ()
    default_with_checkpoint: ClassVar[tuple[str, ...] | None] = None
    #: Whether it needs an encoder with a frozen checkpoint.
    needs_encoder: ClassVar[bool] = False

    def __init__(self, options: FeaturizerOptions, *, source: FeatureSource) -> None:
        self.options, self.source = options, source

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        """The options that the modality gets where they are unset, so that its items hold what the featurizer reads."""
        return {}

    def fit(self, prepared: PreparedInput, rows: np.ndarray) -> None:
        """Fit statistics on the items of the training rows `rows [n]`."""
        return

    def fit_transform(self, prepared: PreparedInput, rows: np.ndarray) -> FeatureBlock:
        """Fit on the items of the training rows `rows [n]`, and return the features of every item, as `transform` does.
        Featurizers whose `fit` needs what `transform` computes compute it once."""
        self.fit(prepared, rows)
        return self.transform(prepared)

    @abstractmethod
    def transform(self, prepared: PreparedInput) -> FeatureBlock:
        """The features of every item, `[items, columns]`: rows of the block are items, in their order. Without any item
        the block has its columns, and no rows."""

    def save(self) -> dict[str, np.ndarray]:
        """The fitted state."""
        return {}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the state that `save` returned, instead of `fit`.

        Raises:
            KeyError, ValueError: the state is not complete, or does not fit the options.
        """
        return


def training_items(prepared: PreparedInput, rows: np.ndarray) -> np.ndarray:
    """The distinct items of some rows, in ascending order; rows without the input have none."""
    found = prepared.index[rows]
    return np.unique(found[found >= 0])
