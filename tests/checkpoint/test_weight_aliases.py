"""Inputs with the same frozen checkpoint: one set of weights in memory, in the file, and in every copy."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from laws.checkpoints import checkpoint
from polymodal import Model, fit, load
from polymodal.applications.compression import convert_model
from polymodal.checkpoint.model_directory import read_weights
from polymodal.checkpoint.shared_weights import num_bytes, shared_state, tie_frozen, with_aliases, without_copies
from polymodal.checkpoint.weight_format import WeightFormat
from polymodal.core.errors import ArtifactError
from polymodal.training.averaging import trainable_state

SETTINGS = {
    "hidden_size": 8,
    "fusion": "concat",
    "training.epochs": 1,
    "training.num_threads": 1,
    "training.precision": "fp32",
    "evaluation.bootstrap_samples": 0,
    "evaluation.unimodal_scores": "none",
}
WORDS = ["amber", "birch", "cloud", "drift"]
COLUMNS = ("first", "second", "third")


def rows(columns: tuple[str, ...]) -> dict[str, list[Any]]:
    texts = {name: [f"{WORDS[(row + shift) % 4]} {name}" for row in range(24)] for shift, name in enumerate(columns)}
    return {**texts, "target": ["a" if row % 2 else "b" for row in range(24)]}


def model_of(columns: tuple[str, ...], settings: dict[str, Any] | None = None, **options: Any) -> Model:
    encoder = {"name": "pretrained_text", "checkpoint": checkpoint("text"), **options}
    inputs = {f"inputs.{name}": {"modality": "text", "encoder": encoder} for name in columns}
    return fit(rows(columns), "target", settings={**SETTINGS, **inputs, **(settings or {})})


@pytest.fixture(scope="module")
def three() -> Model:
    return model_of(COLUMNS)


def held(network: nn.Module) -> int:
    """The bytes of all parameters, each memory once."""
    places = {one.untyped_storage().data_ptr(): one.nbytes for one in network.parameters()}
    return sum(places.values())


def backbone_bytes(model: Model) -> int:
    encoder: Any = model.network.encoders()["first"]
    return sum(one.nbytes for one in encoder.backbone.parameters())


def file_bytes(folder: Path) -> int:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118


def test_three_columns_need_the_space_of_one_and_two_heads(three: Model, tmp_path: Path) -> None:
    one = model_of(COLUMNS[:1])
    one.save(tmp_path / "one")
    three.save(tmp_path / "three")
    backbone = backbone_bytes(three)
    heads = file_bytes(tmp_path / "three") - backbone
    assert 0 < file_bytes(tmp_path / "one") - backbone < heads < backbone
    again = load(tmp_path / "three")
    assert isinstance(again, Model)
    compressed = convert_model(three, WeightFormat(weights="int8"))
    for network in (three.network, again.network, copy.deepcopy(three.network), compressed.network):
        assert backbone < held(network) < 2 * backbone
        towers = [encoder.backbone for encoder in network.encoders().values()]  # type: ignore[union-attr,attr-defined]
        assert len({id(parameter) for tower in towers for parameter in tower.parameters()}) == len(
            list(towers[0].parameters())
        )
    assert np.array_equal(again.predict_proba(rows(COLUMNS)), three.predict_proba(rows(COLUMNS)))


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantized_checkpoints_are_shared(kind: str, tmp_path: Path) -> None:
    one, both = (model_of(columns, quantization=kind) for columns in (COLUMNS[:1], COLUMNS[:2]))
    assert held(both.network) < held(one.network) + 0.3 * backbone_bytes(one)
    for name, model in (("one", one), ("both", both)):
        model.save(tmp_path / name)
    assert file_bytes(tmp_path / "both") < file_bytes(tmp_path / "one") + 0.3 * backbone_bytes(one)
    loaded = load(tmp_path / "both")
    assert held(loaded.network) <= held(both.network)
    np.testing.assert_array_equal(loaded.predict_proba(rows(COLUMNS[:2])), both.predict_proba(rows(COLUMNS[:2])))


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_rounded_weights_are_shared_too(
    weights: Any, three: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polymodal.checkpoint.weight_format.MIN_LARGE_SIZE", 64)
    converted = convert_model(three, WeightFormat(weights=weights))
    converted.save(tmp_path)
    rounded = WeightFormat(weights=weights).to_file(shared_state(three.network))
    kept, aliases = without_copies(rounded)
    assert aliases
    assert file_bytes(tmp_path) == num_bytes(kept) < num_bytes(shared_state(three.network))
    again = load(tmp_path)
    assert isinstance(again, Model)
    assert held(again.network) <= held(three.network)  # equal frozen tensors of one checkpoint (zero biases) too
    assert np.array_equal(again.predict_proba(rows(COLUMNS)), converted.predict_proba(rows(COLUMNS)))


def test_a_conversion_keeps_frozen_weights_together(three: Model) -> None:
    """In place, as a move to an accelerator."""
    converted = copy.deepcopy(three.network).to(torch.float64)
    assert len(list(converted.parameters())) == len(list(three.network.parameters()))
    assert held(converted) == 2 * held(three.network)


def test_trained_layers_stay_apart(tmp_path: Path) -> None:
    model = model_of(COLUMNS[:2], fine_tuning="last", num_layers=1)
    model.save(tmp_path)
    first, second = (encoder.backbone for encoder in model.network.encoders().values())  # type: ignore[attr-defined]
    for own, other in zip(first.parameters(), second.parameters(), strict=True):
        assert (own is other) == (not own.requires_grad)
    again = load(tmp_path)
    assert isinstance(again, Model)
    state = model.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.network.state_dict().items())


def test_a_training_checkpoint_holds_no_frozen_weights(three: Model) -> None:
    assert (
        num_bytes(trainable_state(three.network)) < num_bytes(shared_state(three.network)) - backbone_bytes(three) + 1
    )


def test_a_network_that_starts_from_a_saved_model_shares_its_weights(three: Model, tmp_path: Path) -> None:
    convert_model(three, WeightFormat(weights="int8")).save(tmp_path / "start")
    settings = {"training.init_from": str(tmp_path / "start"), "inputs.fourth": "number"}
    wide = rows(COLUMNS) | {"fourth": [float(row) for row in range(24)]}
    model = fit(wide, "target", settings={**SETTINGS, **settings, **{f"inputs.{name}": "text" for name in COLUMNS}})
    assert held(model.network) < 2 * backbone_bytes(three)


def test_equal_small_or_different_tensors_are_kept() -> None:
    wide = torch.arange(600.0)
    zeros = torch.zeros(600)
    tensors = {
        "a": wide,
        "b": wide.view(2, 300),
        "c": wide.double(),
        "d": zeros,
        "e": -zeros,
        "f": wide[:4],
        "g": wide[:4],
    }
    kept, aliases = without_copies(tensors)
    assert list(kept) == list(tensors)
    assert not aliases
    assert with_aliases(*([{"a": wide}, {"aliases": json.dumps({"z": "a"})}]))["z"] is wide


def test_only_frozen_parameters_of_one_shape_are_tied() -> None:
    network = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 4)])
    network[0].requires_grad_(False)
    network[2].requires_grad_(False)
    tensor = torch.ones(3, 3)
    tie_frozen(network, {"0.weight": tensor, "1.weight": tensor, "2.weight": tensor})
    assert len(list(network.parameters())) == 6


@pytest.mark.parametrize("aliases", ["[]", "{", '{"x": "nothing"}', '{"x": 3}', '{"NAME": "NAME"}', '"x"'])
def test_wrong_aliases_are_an_error_with_the_file(aliases: str, three: Model, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    three.save(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors, path, metadata={"aliases": aliases.replace("NAME", next(iter(tensors)))})
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        read_weights(tmp_path)
    with pytest.raises(ArtifactError, match=r"model\.safetensors was changed"):
        load(tmp_path)
