"""The `minirocket` featurizer: the features of MiniRocket and MultiRocket of time series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from polymodal.core.registry import register
from polymodal.data.store.items import PreparedInput
from polymodal.features.base import FeatureSource, Featurizer, FeaturizerOptions
from polymodal.features.feature_table import FeatureBlock
from polymodal.features.standardization import Standardization
from polymodal.nn.encoders.minirocket import RocketFeatures
from polymodal.nn.encoders.rocket_transform import MAX_FIT_ITEMS, TRIPLES
from polymodal.nn.encoders.windowed import split_prepared
from polymodal.nn.layers.windows import Windows
from polymodal.preparation.item_sample import sample_items
from polymodal.runtime.random_state import isolated_random_state

#: Items that are transformed at once.
BATCH = 64
#: Items to which the standardization is fitted at most.
MAX_STANDARDIZED = 2_048


@register
class MiniRocketFeatures(Featurizer):
    """The features of MiniRocket (Dempster, Schmidt and Webb, 2021) or MultiRocket (Tan et al., 2022) of each series,
    as the encoder `minirocket` computes them, standardized over training items. With a linear estimator, this is the
    classifier of the papers. The features of a series with several windows are the mean over its windows."""

    class Options(FeaturizerOptions):
        name: Literal["minirocket"] = "minirocket"
        num_features: int = Field(default=9_996, ge=len(TRIPLES), le=100_000)
        """Number of features of one pooling, rounded down to a multiple of 84."""
        pooling: Literal["ppv", "all"] = "ppv"
        """Pooling of the convolutions: the proportion of positive values (MiniRocket), or also their mean, their mean
        index and their longest stretch (MultiRocket)."""
        first_difference: bool = False
        """Also compute as many features of the differences of successive steps (MultiRocket)."""

    modalities: ClassVar[tuple[str, ...]] = ("time_series",)
    default_for: ClassVar[tuple[str, ...]] = modalities
    options: Options

    def __init__(self, options: Options, *, source: FeatureSource) -> None:
        super().__init__(options, source=source)
        shape = source.shape
        with isolated_random_state(0):
            self.transforms = RocketFeatures(
                shape["channels"], shape["steps"], options.num_features, options.pooling, options.first_difference
            )
        self.scaling = Standardization(self.transforms.num_features)

    def fit(self, prepared: PreparedInput, rows: np.ndarray) -> None:
        self.scaling.fit(self._encode(prepared, self._fit_transforms(prepared, rows)))

    def fit_transform(self, prepared: PreparedInput, rows: np.ndarray) -> FeatureBlock:
        standardized = self._fit_transforms(prepared, rows)
        features = self._encode(prepared, np.arange(len(prepared.items)))
        self.scaling.fit(features[standardized])
        return FeatureBlock("embedding", self.scaling(features))

    def _fit_transforms(self, prepared: PreparedInput, rows: np.ndarray) -> np.ndarray:
        """Fit the thresholds; the items to whose features the standardization is fitted."""
        items = sample_items(prepared, rows, MAX_FIT_ITEMS, np.random.default_rng(0))
        if len(items):
            with isolated_random_state(0):
                self.transforms.fit(self._windows(prepared, items)[1])
        return items[:: -(-len(items) // MAX_STANDARDIZED) or 1]

    def transform(self, prepared: PreparedInput) -> FeatureBlock:
        return FeatureBlock("embedding", self.scaling(self._encode(prepared, np.arange(len(prepared.items)))))

    def _encode(self, prepared: PreparedInput, items: np.ndarray) -> np.ndarray:
        """The features `[items, num_features]` float32, in batches of items of similar length."""
        lengths = prepared.items.lengths()
        order = np.arange(len(items)) if lengths is None else np.argsort(lengths[items], kind="stable")
        features = np.empty((len(items), self.transforms.num_features), np.float32)
        for start in range(0, len(items), BATCH):
            some = order[start : start + BATCH]
            windows, data = self._windows(prepared, items[some])
            features[some] = windows.mean(self.transforms(data)).numpy()
        return features

    def _windows(self, prepared: PreparedInput, items: np.ndarray) -> tuple[Windows, dict[str, torch.Tensor]]:
        """The windows of some items, and their prepared tensors; an item that is not long has one window."""
        data = self.source.modality.collate(prepared.items.take(items))
        return split_prepared(data, self.source.shape["steps"], "time_series")

    def save(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.transforms.state_dict().items()} | self.scaling.save()

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        own = self.transforms.state_dict()
        for name, tensor in own.items():
            found, wanted = state[name], tensor.numpy()
            if found.shape != wanted.shape or found.dtype != wanted.dtype or not np.isfinite(found).all():
                raise ValueError(f"{name!r} must be {wanted.dtype} {list(wanted.shape)}, all finite")
        self.transforms.load_state_dict({name: torch.from_numpy(np.array(state[name])) for name in own})
        self.scaling.load(state)
