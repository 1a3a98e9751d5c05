"""The frozen pretrained encoders of models with several members."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from polymodal.core.errors import RecipeError
from polymodal.core.registry import find
from polymodal.features.input_features import has_frozen_checkpoint
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.encoders.pretrained import PretrainedEncoder
from polymodal.nn.encoders.windowed import build_encoder
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.random_state import isolated_random_state


def make_encoders(
    recipe: Recipe, preparation: Preparation, inputs: Collection[str], *, pretrained: bool = False
) -> dict[str, Encoder]:
    """The pretrained encoders of some inputs of a recipe without a network, frozen and in evaluation mode, by input.

    pretrained: load weights of pretrained checkpoints; not needed for a saved model
    """
    encoders: dict[str, Encoder] = {}
    with isolated_random_state():
        for name, spec in recipe.inputs.items():
            if (
                name not in inputs
                or spec.encoder is None
                or not issubclass(find("encoder", spec.encoder.name), PretrainedEncoder)
            ):
                continue
            path = f"inputs.{name}.encoder"
            shape = preparation.modalities[name].shape()
            encoder = build_encoder(spec.encoder, path, shape, recipe.hidden_size)
            if pretrained:
                try:
                    encoder.load_pretrained()
                except RecipeError as error:
                    raise error.with_prefix(path) from None
            encoders[name] = encoder.eval().requires_grad_(False)
    return encoders


def share_frozen_encoders(recipe: Recipe, networks: Sequence[Network]) -> None:
    """Let the networks of several folds use one encoder for each input whose checkpoint is frozen, so that its weights
    are in memory once and it runs once for each item. Encoders with other weights stay apart."""
    for name, spec in recipe.inputs.items():
        if not networks or not has_frozen_checkpoint(spec):
            continue
        first = networks[0].towers[name].encoder
        for network in networks[1:]:
            tower = network.towers[name]
            if tower.encoder is not first and _are_equal(first, tower.encoder):
                tower.encoder = first


def _are_equal(first: Encoder, second: Encoder) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(one, states[1][k]) for k, one in states[0].items())
