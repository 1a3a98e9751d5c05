"""What decides whether and how processes divide a network; tests/distributed trains divided networks."""

from __future__ import annotations

from typing import Any

import pytest

from laws.objectives import inputs_of
from laws.samples import light, network_of, prepare, sample_table
from polymodal.core.errors import PolymodalError
from polymodal.distributed.sharding import SHARDS_VARIABLE, mesh_shape
from polymodal.distributed.world import SINGLE
from polymodal.nn.network import Network
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.device_memory import host_memory
from polymodal.training import sharded_training
from polymodal.training.memory_plan import STATE_BYTES, USABLE
from polymodal.training.sharded_training import fits, is_sharded_run, separate_layers, tensor_pattern


@pytest.fixture
def every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_training, "MIN_LAYER_VALUES", 1)


def images(**keys: Any) -> Network:
    columns, recipe = sample_table(["image", "number"], ["classification"], rows=6)
    recipe["inputs"]["in_image"]["encoder"] = light({"name": "vit"})
    return network_of(prepare(columns, **(recipe | keys))[0])


def test_the_processes_of_a_machine_hold_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mesh_shape(8, 4) == (2, 4)
    assert mesh_shape(8, 8) == (1, 8)
    assert mesh_shape(3, 1) == (1, 3)
    assert mesh_shape(5, 3) == (1, 5)  # machines with different numbers of processes
    monkeypatch.setenv(SHARDS_VARIABLE, "2")
    assert mesh_shape(8, 8) == (4, 2)
    for wrong in ("3", "0", "all"):
        monkeypatch.setenv(SHARDS_VARIABLE, wrong)
        with pytest.raises(PolymodalError, match=SHARDS_VARIABLE):
            mesh_shape(8, 8)


def test_a_network_fits_if_its_training_fits_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = images()
    needed = STATE_BYTES * sum(one.numel() for one in network.parameters() if one.requires_grad)
    for processes in (1, 4):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        for factor, expected in ((1.01, True), (0.99, False)):
            free = int(factor * processes * needed / USABLE)
            monkeypatch.setattr(sharded_training, "host_memory", lambda free=free: free)
            assert fits(network, SINGLE, "cpu") is expected
    monkeypatch.setattr(sharded_training, "host_memory", lambda: None)
    assert fits(network, SINGLE, "cpu")


def test_the_free_memory_is_below_that_of_the_machine() -> None:
    free = host_memory()
    assert free is None or 0 < free < 2**50


def test_one_process_never_divides() -> None:
    assert not is_sharded_run(TrainingOptions(sharding="full"), images(), SINGLE, "cpu")


def test_layers_that_run_once_in_each_step_are_separate(every_layer: None) -> None:
    network = images()
    (tower,) = (tower for name, tower in network.towers.items() if name == "in_image")
    blocks = list(tower.encoder.blocks)  # type: ignore[arg-type]
    assert separate_layers(network) == blocks
    tower.chunk_size = 2  # the number of chunks differs between processes
    assert separate_layers(network) == []
    tower.chunk_size = None
    blocks[0].requires_grad_(False)
    assert separate_layers(network) == blocks[1:]


def test_small_layers_are_not_separate() -> None:
    assert separate_layers(images()) == []


def test_layers_that_an_objective_runs_again_are_not_separate(every_layer: None) -> None:
    columns, inputs = inputs_of(6)
    del inputs["in_image"], columns["image"]
    inputs["in_text"]["encoder"] = light({"name": "transformer"})
    found = []
    for name in ("contrastive", "masked_modeling"):
        preparation, _ = prepare(columns, inputs=inputs, objectives=[name])
        found.append(bool(separate_layers(network_of(preparation))))
    assert found == [True, False]


def test_whole_parameters_have_no_pattern() -> None:
    pattern = tensor_pattern(images())
    assert pattern("network.fusion.weight") is None
