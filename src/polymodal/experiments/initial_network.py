"""The network with which a run begins: weights from the seed, of pretrained checkpoints, and of a saved model."""

from __future__ import annotations

import torch

from polymodal.model.make_network import make_network
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.training.optimizer import freeze_parts
from polymodal.training.records import SourceModelRecord
from polymodal.training.source_model import SourceModel
from polymodal.training.weight_transfer import load_matching_weights, matching_parts


def initial_network(recipe: Recipe, preparation: Preparation) -> tuple[Network, SourceModelRecord | None]:
    """The network of a complete recipe before its first step, and the record of the weights that it takes from a saved
    model. Parts that the recipe freezes are frozen. The global random state is that of the seed, and then moved on."""
    start = SourceModel.from_recipe(recipe)
    torch.manual_seed(recipe.seed)
    network = make_network(recipe, preparation, pretrained=True, known=matching_parts(start, preparation))
    record = None if start is None else load_matching_weights(start, network, preparation).record()
    freeze_parts(network, recipe.training)
    return network, record
