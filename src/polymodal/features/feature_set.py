"""The features of all inputs of a recipe: fitted on training rows, computed for any rows, and saved as arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from polymodal.core.registry import build, find
from polymodal.data.store.items import FixedItems, PreparedInput, SelectedItems
from polymodal.features.base import FeatureSource, Featurizer, training_items
from polymodal.features.feature_table import FeatureBlock, FeatureTable, stack_blocks
from polymodal.features.input_features import has_frozen_checkpoint, input_features
from polymodal.modalities.base import Modality
from polymodal.nn.encoders.base import Encoder
from polymodal.preparation.feature_cache import FeatureItems, FeatureSettings
from polymodal.preparation.preparation import ItemCorruption, Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe

#: Most corrupted items, and bytes of them, in memory at once.
CORRUPTED_ITEMS, CORRUPTED_BYTES = 256, 64 * 2**20
_NOTHING: Mapping[str, PreparedInput] = MappingProxyType({})


class FeatureSet:
    """The featurizers of every input of a complete recipe.

    The features of privileged inputs are left out, since estimators do not have them at prediction time. An input whose
    modality has no featurizer has no blocks, and only `present`.

    Features are computed once for each distinct item of the rows.

    preparation: the fitted modalities
    encoders: the encoders of inputs whose pretrained checkpoint is frozen, with its weights
    cache: folder of the feature cache of these encoders; None keeps features in memory
    inputs: those whose features are computed; None: all

    Raises:
        RecipeError: the recipe names a featurizer that does not fit the input.
        KeyError: an encoder that a featurizer needs is not in `encoders`.
    """

    def __init__(
        self,
        recipe: Recipe,
        preparation: Preparation,
        encoders: Mapping[str, Encoder],
        cache: Path | None,
        inputs: Collection[str] | None = None,
    ) -> None:
        self._modalities: dict[str, Modality] = {}
        self.featurizers: dict[str, dict[str, Featurizer]] = {}
        settings = FeatureSettings.from_recipe(recipe)
        for name, spec in recipe.inputs.items():
            if spec.privileged or (inputs is not None and name not in inputs):
                continue
            modality = self._modalities[name] = preparation.modalities[name]
            own = self.featurizers[name] = {}
            for options in input_features(name, spec):
                encoder = encoders[name] if find("featurizer", options.name).needs_encoder else None
                source = FeatureSource(modality, encoder, settings, cache, has_frozen_checkpoint(spec))
                own[options.name] = build("featurizer", options, f"inputs.{name}.features", source=source)

    def fit(self, table: PreparedTable, rows: np.ndarray) -> None:
        """Fit all featurizers on the training rows `rows [n]` of a table."""
        for name, featurizers in self.featurizers.items():
            for featurizer in featurizers.values():
                featurizer.fit(table.inputs[name], rows)

    def fit_transform(self, table: PreparedTable, training: np.ndarray, rows: np.ndarray) -> FeatureTable:
        """Fit all featurizers on the training rows `training [n]` of a table, and return the features of `rows`, which
        contain the training rows: `fit` and `transform`, without computing the features of an item twice."""
        blocks: dict[str, tuple[FeatureBlock, ...]] = {}
        present: dict[str, np.ndarray] = {}
        for name, featurizers in self.featurizers.items():
            source = table.inputs[name]
            items, places = _items_of(source, rows)
            present[name] = places >= 0
            fitted = np.searchsorted(items, training_items(source, training))
            some = selected_items(source, items)
            blocks[name] = tuple(one.fit_transform(some, fitted).take(places) for one in featurizers.values())
        return FeatureTable(blocks, present)

    def transform(
        self,
        table: PreparedTable,
        rows: np.ndarray,
        *,
        corruption: ItemCorruption | None = None,
        encoded: Mapping[str, PreparedInput] = _NOTHING,
        inputs: Collection[str] | None = None,
    ) -> FeatureTable:
        """The features of some rows of a table.

        corruption: a corruption of the items of one input, for robustness tests
        encoded: by input, the same rows with the cached features of its frozen encoder in place of items, so that the
            encoder does not run again
        inputs: those whose features are wanted; None: all
        """
        blocks: dict[str, tuple[FeatureBlock, ...]] = {}
        present: dict[str, np.ndarray] = {}
        for name, featurizers in self.featurizers.items():
            if inputs is not None and name not in inputs:
                continue
            source = table.inputs[name]
            items, places = _items_of(source, rows)
            present[name] = places >= 0
            changed = corruption if corruption is not None and corruption.input == name else None
            parts: list[list[FeatureBlock]] = [[] for _ in featurizers]
            for some in self._parts(name, source, items, changed):
                for part, featurizer in zip(parts, featurizers.values(), strict=True):
                    ready = featurizer.needs_encoder and changed is None and name in encoded
                    part.append(featurizer.transform(selected_items(encoded[name], items) if ready else some))
            blocks[name] = tuple(stack_blocks(part).take(places) for part in parts)
        return FeatureTable(blocks, present)

    def state(self, inputs: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The fitted state of the featurizers of some inputs, or of all: arrays by `input/featurizer/array`."""
        return {
            f"{name}/{kind}/{array}": values
            for name, featurizers in self.featurizers.items()
            if inputs is None or name in inputs
            for kind, featurizer in featurizers.items()
            for array, values in featurizer.save().items()
        }

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the result of `state`, instead of `fit`.

        Raises:
            KeyError, ValueError: an array is missing, is of no featurizer, or has a wrong shape or type.
        """
        own: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        for path, values in state.items():
            input_path, _, array = path.rpartition("/")
            name, _, kind = input_path.rpartition("/")
            own.setdefault((name, kind), {})[array] = values
        for name, featurizers in self.featurizers.items():
            for kind, featurizer in featurizers.items():
                featurizer.load(own.get((name, kind), {}))
        if surplus := sorted(set(state) - set(self.state())):
            raise ValueError(f"{surplus[0]!r} is no array of these features")

    def _parts(
        self, name: str, source: PreparedInput, items: np.ndarray, corruption: ItemCorruption | None
    ) -> Iterator[PreparedInput]:
        """The items of an input in order: all at once, or in parts if they are corrupted."""
        if corruption is None or not len(items):
            yield selected_items(source, items)
            return
        if isinstance(source.items, FeatureItems):
            raise ValueError(f"the items of input {name!r} cannot be corrupted: they are cached features")
        size = int(np.clip(CORRUPTED_BYTES / max(source.items.item_bytes(), 1.0), 1, CORRUPTED_ITEMS))
        modality = self._modalities[name]
        for start in range(0, len(items), size):
            taken = source.items.take(items[start : start + size])
            corrupted = modality.corrupt(taken, corruption.kind, corruption.strength, corruption.generator)
            count = len(items[start : start + size])
            yield PreparedInput(np.arange(count, dtype=np.int64), FixedItems(corrupted))


def _items_of(source: PreparedInput, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct items of some rows in ascending order, and the place among them of that of each row; -1: missing."""
    index = source.index[rows]
    present = index >= 0
    items, position = np.unique(index[present], return_inverse=True)
    places = np.full(len(rows), -1, np.int64)
    places[present] = position
    return items, places


def selected_items(source: PreparedInput, items: np.ndarray) -> PreparedInput:
    """Some items of an input, one row each."""
    rows = np.arange(len(items), dtype=np.int64)
    if len(items) == len(source.items):  # ascending and distinct, so all of them
        return replace(source, index=rows)
    keys = source.content_keys and [source.content_keys[item] for item in items]
    some = source.items.select(items) if isinstance(source.items, FeatureItems) else SelectedItems(source.items, items)
    return PreparedInput(rows, some, keys)
