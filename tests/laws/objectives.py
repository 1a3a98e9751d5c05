"""Every objective on sample inputs: a network with it, a few steps of training, and the results of both."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laws.samples import network_of, prepare, sample, sample_table
from polymodal.core.registry import components
from polymodal.nn.network import Network
from polymodal.nn.objectives.alignment import Alignment
from polymodal.nn.objectives.base import ObjectiveBatch
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.training.loss import Loss

#: The modalities of the sample inputs, `in_<modality>`. There is also a second text, `in_more`.
MODALITIES = ["text", "number", "category", "image"]
OBJECTIVES = list(components("objective"))


def inputs_of(rows: int = 10) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Columns of two texts, numbers, categories and images, and the recipe's inputs."""
    columns, recipe = sample_table(MODALITIES, [], rows)
    columns["more"] = sample("modality", "text", rows)["text"][::-1]
    inputs = recipe["inputs"] | {"in_more": {"modality": "text", "columns": ["more"]}}
    inputs["in_image"]["encoder"] = {"name": "vit", "num_layers": 1}
    return columns, inputs


def with_objective(options: dict[str, Any]) -> tuple[Preparation, PreparedTable, Network]:
    """A small network with the objective, and rows of which some have a missing input."""
    columns, inputs = inputs_of()
    for place, spec in enumerate(inputs.values()):
        for column in spec["columns"]:
            columns[column][place] = None
    preparation, prepared = prepare(columns, inputs=inputs, objectives=[options])
    return preparation, prepared, network_of(preparation)


def loss_of(preparation: Preparation, network: Network, step: ObjectiveBatch) -> Tensor:
    """The loss that training minimizes."""
    weights = {name: one.options.weight for name, one in network.objectives.items()}
    total: Tensor = Loss(preparation.tasks, weights, "fixed")({}, step.batch, network.objective_losses(step)).total
    return total


def step_of(
    preparation: Preparation, prepared: PreparedTable, network: Network, progress: float = 0.0, *, augment: bool = True
) -> ObjectiveBatch:
    rows = np.arange(prepared.rows)
    batch = preparation.batch(prepared, rows, augment=augment)
    again = partial(preparation.batch, prepared, rows, augment=True)
    return ObjectiveBatch(network, batch, network.encode(batch).tokens, again, progress)


def train_steps(preparation: Preparation, prepared: PreparedTable, network: Network, steps: int = 3) -> list[Tensor]:
    """The losses of this many steps of training, which also update the weights."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, 1e-2, weight_decay=0)
    network.train()
    losses = []
    for place in range(steps):
        loss = loss_of(preparation, network, step_of(preparation, prepared, network, place / steps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for objective in network.objectives.values():
            objective.after_step(network)
        losses.append(loss.detach())
    return losses


def of_objective(options: dict[str, Any]) -> dict[str, Any]:
    """The first weights, the losses of some steps, the weights after them, the terms in evaluation, and the embeddings
    where there is a joint space."""
    preparation, prepared, network = with_objective(options)
    found: dict[str, Any] = {"state": {name: tensor.clone() for name, tensor in network.state_dict().items()}}
    torch.manual_seed(1)
    found["losses"] = train_steps(preparation, prepared, network)
    found["after"] = network.state_dict()
    network.eval()
    (objective,) = network.objectives.values()
    found["raw"] = objective.raw_inputs
    with torch.no_grad():
        step = step_of(preparation, prepared, network, augment=False)
        found["terms"] = list(map(tuple, objective(step)))
        if isinstance(objective, Alignment):
            found["embeddings"] = {name: objective.embed(name, step.tokens[name]) for name in objective.inputs}
    return found
