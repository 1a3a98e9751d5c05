"""`make_network`: the network of a recipe, with initial or pretrained weights."""

from __future__ import annotations

from collections.abc import Collection

from polymodal.core.errors import RecipeError
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.training.decoder_weights import load_initial_weights


def make_network(
    recipe: Recipe, preparation: Preparation, *, pretrained: bool = False, known: Collection[str] = ()
) -> Network:
    """The untrained network of a complete recipe and a fitted preparation, with weights from torch's global generator.

    pretrained: load weights of pretrained checkpoints; not needed for a saved model
    known: inputs and outputs, by recipe path, whose pretrained weights are not needed
    """
    outputs = {name: task.output_shape for name, task in preparation.tasks.items()}
    network = Network(recipe, shapes=preparation.shapes(), outputs=outputs)
    if pretrained:
        for name, encoder in network.encoders().items():
            if f"inputs.{name}" in known:
                continue
            try:
                encoder.load_pretrained()
            except RecipeError as error:
                raise error.with_prefix(f"inputs.{name}.encoder") from None
        for name, decoders in network.decoders.items():
            if f"outputs.{name}" in known:
                continue
            try:
                for decoder in decoders.values():
                    load_initial_weights(decoder)
            except RecipeError as error:
                raise error.with_prefix(f"outputs.{name}.decoder") from None
    return network
