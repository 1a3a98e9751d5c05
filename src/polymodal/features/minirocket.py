"""The `minirocket` featurizer: fixed convolution features of time series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from polymodal.core.registry import register
from polymodal.data.store.items import PreparedInput
from polymodal.features.base import FeatureSource, Featurizer, FeaturizerOptions, training_items
from polymodal.features.feature_table import FeatureBlock
from polymodal.features.standardization import Standardization, spread
from polymodal.nn.encoders.rocket_transform import MAX_FIT_ITEMS, TRIPLES, RocketTransform
from polymodal.runtime.random_state import isolated_random_state

#: Number of series at once, and most padded steps of them.
BATCH_ITEMS, BATCH_STEPS = 256, 2**18


@register
class MiniRocketFeatures(Featurizer):
    """The fractions of steps above a bias, for 84 fixed kernels at several dilations (Dempster, Schmidt and Webb,
    "MiniRocket: A Very Fast (Almost) Deterministic Transform for Time Series Classification", 2021; see
    `nn.encoders.rocket_transform`), and the fraction of observed steps of each channel. They are standardized over
    training items."""

    class Options(FeaturizerOptions):
        name: Literal["minirocket"] = "minirocket"
        num_features: int = Field(default=9_996, ge=len(TRIPLES), le=100_000)
        """Number of features, rounded down to a multiple of 84."""

    modalities: ClassVar[tuple[str, ...]] = ("time_series",)
    default_for: ClassVar[tuple[str, ...]] = modalities
    options: Options

    def __init__(self, options: Options, *, source: FeatureSource) -> None:
        super().__init__(options, source=source)
        shape, per_kernel = source.shape, options.num_features // len(TRIPLES)
        with isolated_random_state(0):
            self.transformation = RocketTransform(shape["channels"], shape["steps"], per_kernel)
        self.scaling = Standardization(self.transformation.num_features + shape["channels"])

    def fit(self, prepared: PreparedInput, rows: np.ndarray) -> None:
        items = training_items(prepared, rows)
        if not len(items):
            return
        lengths = prepared.items.lengths()
        longest = items[:0] if lengths is None else items[np.argmax(lengths[items])][None]
        some = np.union1d(items[spread(len(items), MAX_FIT_ITEMS)], longest)
        with isolated_random_state(0):
            self.transformation.fit(*self._series(prepared, some)[:2])
        self.scaling.fit(self._features(prepared, items[spread(len(items))]))

    def transform(self, prepared: PreparedInput) -> FeatureBlock:
        return FeatureBlock("embedding", self.scaling(self._features(prepared, np.arange(len(prepared.items)))))

    def _features(self, prepared: PreparedInput, items: np.ndarray) -> np.ndarray:
        parts = [np.zeros((0, len(self.scaling)), np.float32)]
        for some in self._batches(prepared, items):
            values, length, observed = self._series(prepared, some)
            share = observed.sum(1) / length.unsqueeze(1)
            parts.append(torch.cat([self.transformation(values, length), share], dim=1).numpy())
        return np.concatenate(parts)

    def _batches(self, prepared: PreparedInput, items: np.ndarray) -> Iterator[np.ndarray]:
        size = int(np.clip(BATCH_STEPS / max(self.source.shape["steps"], 1), 1, BATCH_ITEMS))
        for start in range(0, len(items), size):
            yield items[start : start + size]

    def _series(self, prepared: PreparedInput, items: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Values, lengths, and where there is a value."""
        data = self.source.modality.collate(prepared.items.take(items))
        return data["values"], data["length"], data["observed"]

    def save(self) -> dict[str, np.ndarray]:
        fitted = {name: tensor.numpy().copy() for name, tensor in self.transformation.state_dict().items()}
        return fitted | self.scaling.save()

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        own = self.transformation.state_dict()
        for name, tensor in own.items():
            array = state[name]
            if array.shape != tuple(tensor.shape) or array.dtype != tensor.numpy().dtype:
                raise ValueError(f"{name!r} must have the shape {tuple(tensor.shape)} and the type {tensor.dtype}")
        self.transformation.load_state_dict({name: torch.from_numpy(state[name].copy()) for name in own})
        self.scaling.load(state)
