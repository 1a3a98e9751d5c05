"""The `statistics` featurizer: fixed statistics of images, audio, videos and time series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from polymodal.core.registry import register
from polymodal.data.store.items import PreparedInput
from polymodal.features.base import FeatureSource, Featurizer, FeaturizerOptions, training_items
from polymodal.features.feature_table import FeatureBlock
from polymodal.features.media_statistics import num_statistics, summary_statistics
from polymodal.features.standardization import Standardization, spread

#: The importance of the statistics of media beside the output of a checkpoint. Measured on folds of stamps, emoji and
#: handwritten digits: half of that of the output has a lower loss than none or all of it, but on digits all is better.
BESIDE_CHECKPOINT = 0.5


@register
class Statistics(Featurizer):
    """Fixed statistics of each item, without training: a few hundred numbers (see `media_statistics`). They are
    standardized over training items. Those of time series are numbers; those of other media form an embedding."""

    class Options(FeaturizerOptions):
        name: Literal["statistics"] = "statistics"

    modalities: ClassVar[tuple[str, ...]] = ("image", "audio", "video", "time_series")
    default_for: ClassVar[tuple[str, ...]] = modalities

    def __init__(self, options: FeaturizerOptions, *, source: FeatureSource) -> None:
        super().__init__(options, source=source)
        self.modality: str = source.modality.options.name
        self.scaling = Standardization(num_statistics(self.modality, source.shape))

    def fit(self, prepared: PreparedInput, rows: np.ndarray) -> None:
        items = training_items(prepared, rows)
        self.scaling.fit(self._statistics(prepared, items[spread(len(items))]))

    def fit_transform(self, prepared: PreparedInput, rows: np.ndarray) -> FeatureBlock:
        values, items = self._statistics(prepared, np.arange(len(prepared.items))), training_items(prepared, rows)
        self.scaling.fit(values[items[spread(len(items))]])
        return self._block(values)

    def transform(self, prepared: PreparedInput) -> FeatureBlock:
        return self._block(self._statistics(prepared, np.arange(len(prepared.items))))

    def _block(self, values: np.ndarray) -> FeatureBlock:
        if self.modality == "time_series":
            return FeatureBlock("number", self.scaling(values))
        importance = BESIDE_CHECKPOINT if self.source.has_checkpoint else 1.0
        return FeatureBlock("embedding", self.scaling(values), importance=importance)

    def _statistics(self, prepared: PreparedInput, items: np.ndarray) -> np.ndarray:
        return summary_statistics(prepared.items, items, self.modality, self.source.shape)

    def save(self) -> dict[str, np.ndarray]:
        return self.scaling.save()

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        self.scaling.load(state)
