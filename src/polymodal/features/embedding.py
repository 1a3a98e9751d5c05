"""The `embedding` featurizer: the output of a frozen pretrained encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from polymodal.core.registry import register
from polymodal.data.store.items import PreparedInput
from polymodal.features.base import Featurizer, FeaturizerOptions
from polymodal.features.feature_table import FeatureBlock
from polymodal.metrics.retrieval import normalize_rows
from polymodal.preparation.feature_cache import FeatureItems, encode_frozen_input, mean_features


@register
class EmbeddingFeatures(Featurizer):
    """The output of the frozen checkpoint for each item: the mean over its tokens, scaled to length 1.

    The encoder runs once for each item: its output is taken from the feature cache, which training fills as well.
    """

    class Options(FeaturizerOptions):
        name: Literal["embedding"] = "embedding"

    modalities: ClassVar[tuple[str, ...]] = ("text", "image", "audio", "video")
    default_with_checkpoint: ClassVar[tuple[str, ...] | None] = modalities
    needs_encoder: ClassVar[bool] = True

    def transform(self, prepared: PreparedInput) -> FeatureBlock:
        items = prepared.items
        if not len(items):
            return FeatureBlock("embedding", np.zeros((0, self._width()), np.float32))
        if not isinstance(items, FeatureItems):
            items = self._encoded(prepared)
        return FeatureBlock("embedding", normalize_rows(mean_features(items)))

    def _encoded(self, prepared: PreparedInput) -> FeatureItems:
        """The output of the encoder. Items without content keys (corrupted ones) are not cached."""
        source, folder = self.source, self.source.cache
        assert source.encoder is not None, "the set of features gives an encoder to this featurizer"
        if prepared.content_keys is None:
            names = [str(item).encode() for item in range(len(prepared.items))]
            prepared, folder = replace(prepared, content_keys=names), None
        found = encode_frozen_input(source.encoder, source.modality, prepared, source.settings, folder=folder)
        if found is None or not isinstance(found.items, FeatureItems):
            raise ValueError("the checkpoint of the encoder is not frozen")
        return found.items

    def _width(self) -> int:
        assert self.source.encoder is not None
        prefix = self.source.encoder.frozen_prefix()
        if prefix is None:
            raise ValueError("the checkpoint of the encoder is not frozen")
        return prefix.width
