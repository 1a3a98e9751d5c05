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


@register
class Statistics(Featurizer):
    """Fixed statistics of each item, without training: a few hundred numbers (see `media_statistics`). They are
    standardized over training items. Those of time series are numbers; those of other media form an embedding."""

    class Options(FeaturizerOptions):
        name: Literal["statistics"] = "statistics"

    modalities: ClassVar[tuple[str, ...]] = ("image", "audio", "video", "time_series")
    default_for: ClassVar[tuple[str, ...]] = modalities
    default_with_checkpoint: ClassVar[tuple[str, ...] | None] = ("time_series",)

    def __init__(self, options: FeaturizerOptions, *, source: FeatureSource) -> None:
        super().__init__(options, source=source)
        self.modality: str = source.modality.options.name
        self.scaling = Standardization(num_statistics(self.modality, source.shape))

    def fit(self, prepared: PreparedInput, rows: np.ndarray) -> None:
        items = training_items(prepared, rows)
        self.scaling.fit(self._statistics(prepared, items[spread(len(items))]))

    def transform(self, prepared: PreparedInput) -> FeatureBlock:
        values = self.scaling(self._statistics(prepared, np.arange(len(prepared.items))))
        return FeatureBlock("number" if self.modality == "time_series" else "embedding", values)

    def _statistics(self, prepared: PreparedInput, items: np.ndarray) -> np.ndarray:
        return summary_statistics(prepared.items, items, self.modality, self.source.shape)

    def save(self) -> dict[str, np.ndarray]:
        return self.scaling.save()

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        self.scaling.load(state)
