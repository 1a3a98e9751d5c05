"""The `numbers` featurizer: standardized numbers and features of dates, with gaps."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from polymodal.core.registry import register
from polymodal.data.store.items import PreparedInput
from polymodal.features.base import Featurizer, FeaturizerOptions
from polymodal.features.feature_table import FeatureBlock


@register
class Numbers(Featurizer):
    """One column for each column of numbers, or for each feature of dates, as the modality prepared it; a missing value
    is NaN."""

    class Options(FeaturizerOptions):
        name: Literal["numbers"] = "numbers"

    modalities: ClassVar[tuple[str, ...]] = ("number", "datetime")
    default_for: ClassVar[tuple[str, ...]] = modalities

    def transform(self, prepared: PreparedInput) -> FeatureBlock:
        items = prepared.items.take(np.arange(len(prepared.items)))
        return FeatureBlock("number", np.where(items["known"], items["values"], np.nan).astype(np.float32))
