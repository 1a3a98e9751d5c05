"""Which inputs of a store of prepared rows are features of frozen layers, and the computation of these features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from polymodal.nn.encoders.base import Encoder
from polymodal.nn.network import Network
from polymodal.preparation.feature_cache import FeatureSettings, encode_frozen_input, feature_dtype, feature_hash
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import network_device
from polymodal.runtime.thread_limit import max_threads


def stored_features(network: Network, preparation: Preparation) -> dict[str, str]:
    """The inputs that are stored as features, with a hash of their frozen layers.

    Items are stored in place of features if members other than a network read them, if an objective reads them, if
    they are augmented at random, or if the frozen layers are fitted to items of training rows.
    """
    recipe, found = preparation.recipe, {}
    if recipe.members or not recipe.training.feature_cache.enabled:
        return {}
    dtype = feature_dtype(recipe.training.feature_cache, network_device(network))
    for name, encoder in network.encoders().items():
        modality = preparation.modalities[name]
        if name in network.raw_inputs() or encoder.num_fit_items or modality.has_augmentation:
            continue
        if encoder.frozen_prefix() is not None and modality.fingerprint(recipe.data.limits) is not None:
            found[name] = feature_hash(encoder, dtype)
    return found


def with_features(
    prepared: PreparedTable, encoders: Mapping[str, Encoder], preparation: Preparation, recipe: Recipe
) -> PreparedTable:
    """The prepared rows with features in place of the items of the inputs in `encoders`.

    Threads are not chosen by measurement, so the same machine computes the same bits each time.
    """
    settings = FeatureSettings.from_recipe(recipe)
    settings = replace(settings, threads=settings.threads or max_threads())
    inputs = dict(prepared.inputs)
    for name, encoder in encoders.items():
        encoded = encode_frozen_input(encoder, preparation.modalities[name], inputs[name], settings, folder=None)
        assert encoded is not None, "stored_features selects inputs with frozen layers"
        inputs[name] = encoded
    return replace(prepared, inputs=inputs)
