"""The `codes` featurizer: the code of each category."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from polymodal.core.registry import register
from polymodal.data.store.items import PreparedInput
from polymodal.features.base import Featurizer, FeaturizerOptions
from polymodal.features.feature_table import FeatureBlock


@register
class Codes(Featurizer):
    """One column of codes for each column of the input: -1 for a missing category, 0 for a rare or unknown one."""

    class Options(FeaturizerOptions):
        name: Literal["codes"] = "codes"

    modalities: ClassVar[tuple[str, ...]] = ("category",)
    default_for: ClassVar[tuple[str, ...]] = ("category",)

    def transform(self, prepared: PreparedInput) -> FeatureBlock:
        ids = prepared.items.take(np.arange(len(prepared.items)))["ids"].astype(np.int32)
        sizes = tuple(max(0, size - 1) for size in self.source.shape["sizes"])  # the first id is a missing category
        return FeatureBlock("category", ids - 1, sizes)
