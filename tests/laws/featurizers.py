"""Inputs with a featurizer, for the laws of featurizers."""

from __future__ import annotations

from typing import Any

from laws.checkpoints import checkpoint
from laws.samples import small
from polymodal.core.registry import find
from polymodal.features.input_features import required_modality_options
from polymodal.recipe.recipe import InputSpec

#: Recipe keys of a model with a network and with a member that reads features.
MEMBERS: dict[str, Any] = {"members": ["linear"], "network": True}


def with_features(spec: dict[str, Any], modality: str, options: dict[str, Any]) -> dict[str, Any]:
    """The recipe keys `spec` of an input of a modality, with the features `options`, and with the encoder and the
    options of the modality that these need."""
    spec = {**spec, "modality": small(modality), "features": [options]}
    if find("featurizer", options["name"]).needs_encoder:
        spec["modality"] = modality
        spec["encoder"] = {"name": f"pretrained_{modality}", "checkpoint": checkpoint(modality)}
        return spec
    required = required_modality_options("in", InputSpec(modality=modality, features=[options]))
    return {**spec, "modality": {**spec["modality"], **required}}
