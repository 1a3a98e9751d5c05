"""The network of a recipe, with initial, pretrained or saved weights; and how to run it."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from polymodal.checkpoint.shared_weights import tie_frozen, tie_same_memory
from polymodal.core.errors import RecipeError
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.compute import ComputeConfig
from polymodal.training.decoder_weights import load_initial_weights


def make_network(
    recipe: Recipe, preparation: Preparation, *, pretrained: bool = False, known: Collection[str] = ()
) -> Network:
    """The untrained network of a complete recipe and a fitted preparation, with weights from torch's global generator.

    pretrained: load weights of pretrained checkpoints, whose frozen parameters are shared by all inputs; not needed for
        a saved model
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
        tie_same_memory(network)
    return network


def saved_network(recipe: Recipe, preparation: Preparation, weights: dict[str, Tensor]) -> Network:
    """The network of a recipe with saved weights.

    Raises:
        RuntimeError: the weights are of another network.
    """
    network = make_network(recipe, preparation)
    tie_frozen(network, weights)
    network.load_state_dict(weights)
    return network


def compute_config(options: TrainingOptions, device: str) -> ComputeConfig:
    """The compute configuration for predictions: precision and threads of a completed recipe, on a device."""
    precision = "fp32" if options.precision == "auto" else options.precision
    threads = torch.get_num_threads() if options.num_threads == "auto" else options.num_threads
    return ComputeConfig(precision, min(threads, torch.get_num_threads()), device=device).supported()
