"""Law 6: the same seed gives the same weights to the bit, and every weight is stored and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from laws.objectives import OBJECTIVES, step_of, train_steps, with_objective
from laws.samples import (
    TEXT_DECODERS,
    light,
    network_of,
    prepare,
    sample,
    sample_table,
    total_loss,
    trained,
    whole_batch,
)
from polymodal.core.registry import components
from polymodal.core.types import Batch
from polymodal.nn.layers.named_modules import module_key
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation

SINGLE: list[tuple[str, dict[str, Any]]] = [
    *(("encoder", light({"name": name})) for name in components("encoder")),
    *(("fusion", {"name": name}) for name in components("fusion")),
    *(("decoder", light({"name": name})) for name in components("decoder")),
]
ROWS = 12


def train(folder: Path, seed: int, fusion: str = "attention") -> dict[str, Tensor]:
    columns, recipe = sample_table(
        list(components("modality")), ["classification", "regression", "metric_learning", "text_generation"]
    )
    training = {"epochs": 2, "batch_size": 8, "modality_dropout": 0.2}
    parts = {"train": columns, "validation": columns}
    model = trained(parts, folder / str(seed), **recipe, seed=seed, fusion=fusion, training=training)
    return model.network.state_dict()


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = train(tmp_path / "first", seed=5)
    torch.manual_seed(2)  # what the caller's generator holds must not matter
    second = train(tmp_path / "second", seed=5)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = train(tmp_path / "other", seed=6)
    trained_names = [name for name in first if name.endswith("weight")]
    assert not any(torch.equal(first[name], other[name]) for name in trained_names)


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(tmp_path, seed=5)
    assert torch.equal(before, torch.get_rng_state())


def network_with(kind: str, options: dict[str, Any]) -> tuple[Preparation, Network, Batch]:
    """A small network that has the component, and a batch with gaps in every input."""
    if kind == "encoder":
        modality = components("encoder")[options["name"]].modality
        columns, recipe = sample_table(
            [modality, "number" if modality != "number" else "text"], ["classification"], ROWS
        )
        recipe["inputs"][f"in_{modality}"]["encoder"] = options
        recipe["fusion"] = "concat"
    elif kind == "fusion":
        columns, recipe = sample_table(["text", "number", "category"], ["classification"], ROWS)
        recipe["fusion"] = options
    elif options["name"] in TEXT_DECODERS:
        columns, recipe = sample_table(["text", "number", "time_series"], ["text_generation"], ROWS)
        recipe["outputs"]["y_text_generation"]["decoder"], recipe["fusion"] = options, "concat"
    elif components("decoder")[options["name"]].tasks:
        (task,) = components("decoder")[options["name"]].tasks
        kinds = ["text", "number", "image" if task == "object_detection" else "time_series"]
        columns, recipe = sample_table(kinds, [task], ROWS)
        recipe["outputs"][f"y_{task}"]["decoder"] = options
    else:  # a timeline, which some inputs have and of which some end early
        columns, recipe = sample_table(["text", "number", "time_series"], ["event_detection"], ROWS)
        recipe["inputs"]["in_time_series"]["modality"] = {"name": "time_series", "sampling_rate": 10.0}
        recipe["outputs"]["y_event_detection"]["decoder"] = options
    for place, spec in enumerate(recipe["inputs"].values()):
        for column in spec["columns"]:
            columns[column][place] = None
    preparation, prepared = prepare(columns, **recipe)
    return preparation, network_of(preparation), whole_batch(preparation, prepared)


@pytest.mark.parametrize(("kind", "options"), SINGLE, ids=str)
def test_every_parameter_learns(kind: str, options: dict[str, Any]) -> None:
    """Each that asks for a gradient moves within two steps. A fusion that leaves missing inputs out has no use for
    their "missing" tokens; it then leaves out all of them."""
    preparation, network, batch = network_with(kind, options)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2, weight_decay=0)
    network.train()
    for _ in range(2):  # what starts at exactly zero may hold back a gradient until it has moved
        optimizer.zero_grad()
        total_loss(preparation, network, batch).backward()
        optimizer.step()
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    still = {n for n, parameter in network.named_parameters() if n in learning and torch.equal(before[n], parameter)}
    missing = {f"towers.{module_key(name)}.missing" for name in network.inputs}
    assert still in (set(), missing)
    assert still == set() or kind == "fusion"


@pytest.mark.parametrize(("kind", "options"), SINGLE, ids=str)
def test_every_weight_is_in_the_state(kind: str, options: dict[str, Any]) -> None:
    """No weight hides in a list or an attribute where saving, moving and training would not find it."""
    _, network, _ = network_with(kind, options)
    state = network.state_dict()
    assert {name for name, _ in network.named_parameters()} <= set(state)
    hidden = [
        f"{name}.{key}"
        for name, module in network.named_modules()
        for key, value in vars(module).items()
        if not key.startswith("_") and any(isinstance(found, Tensor | nn.Module) for found in leaves(value))
    ]
    assert hidden == []


@pytest.mark.parametrize(("kind", "options"), SINGLE, ids=str)
def test_the_state_is_all_there_is(kind: str, options: dict[str, Any]) -> None:
    """A network of other initial weights, given the state, computes the same to the bit."""
    preparation, network, batch = network_with(kind, options)
    other = network_of(preparation, seed=1)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        one, two = network.eval()(batch), other.eval()(batch)
    assert all(torch.equal(one[name].values, two[name].values) for name in one)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_of_an_objective_learns_and_is_saved(objective: str) -> None:
    """Each of its own parameters moves within a few steps, and none hides; a network of other first weights, given the
    state, computes the same."""
    preparation, prepared, network = with_objective({"name": objective})
    (own,) = network.objectives.values()
    before = {name: parameter.detach().clone() for name, parameter in own.named_parameters()}
    train_steps(preparation, prepared, network)
    assert [name for name, parameter in own.named_parameters() if torch.equal(before[name], parameter)] == []
    assert set(before) <= set(own.state_dict())
    other = network_of(preparation, seed=1)
    other.load_state_dict(network.state_dict())
    (others,) = other.objectives.values()
    for training in (False, True):
        found = []
        for one, its in ((network.train(training), own), (other.train(training), others)):
            torch.manual_seed(2)
            with torch.no_grad():
                found.append([term.loss for term in its(step_of(preparation, prepared, one, progress=0.5))])
        assert len(found[0]) == len(found[1])
        assert found[0]
        assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list | tuple) else [value]


@pytest.mark.parametrize("modality", components("modality"))
def test_preparation_is_deterministic_and_leaves_cells_alone(modality: str) -> None:
    columns = sample("modality", modality) | sample("task", "regression")
    recipe = {"inputs": {"x": {"modality": modality, "columns": list(sample("modality", modality))}}}
    first, prepared = prepare(columns, **recipe, outputs={"target": "regression"})
    second, again = prepare(columns, **recipe, outputs={"target": "regression"})
    assert first.shapes() == second.shapes()
    one, two = (whole_batch(first, prepared).inputs["x"], whole_batch(second, again).inputs["x"])
    assert torch.equal(one.index, two.index)
    assert all(torch.equal(one.data[key], two.data[key]) for key in one.data)
    fresh = sample("modality", modality)
    assert all(repr(columns[name]) == repr(cells) for name, cells in fresh.items() if modality != "image")
