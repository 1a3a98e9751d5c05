"""Networks of one checkpoint share their frozen weights, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from laws.checkpoints import checkpoint
from laws.samples import prepare, sample_table
from polymodal.model.make_network import make_network
from polymodal.pretrained import weights
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.resolve import read_checkpoint_config
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.autotune import autotune

MODALITIES = ["text", "image", "audio", "video"]


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_weight_cache", {})


def loaded(part: str, folder: str | None = None, *, learning: int = 0) -> Backbone:
    """A backbone with `learning` trainable top layers and the weights of the checkpoint."""
    torch.manual_seed(0)
    backbone = Backbone(read_checkpoint_config(folder or checkpoint(part), part), part)
    backbone.split_index = backbone.num_layers - learning
    for layer in backbone.layers[backbone.split_index :]:
        layer.requires_grad_(True)
    backbone.load()
    return backbone


def places(module: nn.Module) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in module.state_dict(keep_vars=True).items() if tensor.numel()}


@pytest.mark.parametrize("part", MODALITIES)
@pytest.mark.parametrize("learning", [0, 1])
def test_exactly_frozen_parameters_are_shared(part: str, learning: int) -> None:
    one, other = loaded(part, learning=learning), loaded(part, learning=learning)
    at, elsewhere = places(one), places(other)
    frozen = {name for name, parameter in one.named_parameters() if not parameter.requires_grad}
    assert {name for name in at if at[name] == elsewhere[name]} == frozen
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


@pytest.mark.parametrize("part", MODALITIES)
def test_weights_have_the_memory_format_of_new_networks(part: str) -> None:
    columns, recipe = sample_table([part], ["regression"], rows=8)
    recipe["inputs"][f"in_{part}"]["encoder"] = {"name": f"pretrained_{part}", "checkpoint": checkpoint(part)}
    preparation, _ = prepare(columns, **recipe)
    new, taken = (make_network(preparation.recipe, preparation, pretrained=pretrained) for pretrained in (False, True))
    strides = {name: parameter.stride() for name, parameter in new.named_parameters()}
    assert {name: parameter.stride() for name, parameter in taken.named_parameters()} == strides


def test_training_one_network_does_not_change_the_next() -> None:
    one = loaded("text", learning=1)
    wanted = copy.deepcopy(one.state_dict())
    with torch.no_grad():
        for parameter in one.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    found = loaded("text", learning=1).state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_fully_trainable_network_caches_no_weights() -> None:
    backbone = Backbone(read_checkpoint_config(checkpoint("text"), "text"), "text")
    backbone.requires_grad_(True)
    backbone.load()
    assert not weights._weight_cache


def test_modified_weights_are_loaded_again() -> None:
    one = loaded("text")
    wanted = copy.deepcopy(one.state_dict())
    with torch.no_grad():
        next(one.parameters()).add_(1.0)
    found = loaded("text").state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_changed_file_is_loaded_again(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    copytree(checkpoint("text"), folder)
    first = loaded("text", str(folder)).state_dict()
    file = folder / "model.safetensors"
    changed = {name: tensor + 1 for name, tensor in load_file(file).items()}
    file.unlink()
    save_file(changed, file, metadata={"format": "pt"})
    second = loaded("text", str(folder)).state_dict()
    assert all(torch.equal(second[name], first[name] + 1) for name in first)


def test_the_oldest_weights_are_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded("text")
    size = sum(tensor.nbytes for tensor in next(iter(weights._weight_cache.values())).values())
    loaded("image")
    assert [key[0] for key in weights._weight_cache] == ["text", "image"]
    loaded("text")
    assert [key[0] for key in weights._weight_cache] == ["image", "text"]
    monkeypatch.setattr(weights, "MAX_CACHE_BYTES", size)
    loaded("text")
    assert [key[0] for key in weights._weight_cache] == ["text"]
    monkeypatch.setattr(weights, "MAX_CACHE_BYTES", size - 1)
    loaded("text")
    assert not weights._weight_cache


def test_weights_loaded_for_inference_can_be_trained_in_another_network() -> None:
    with torch.inference_mode():
        wanted = loaded("text").state_dict()
    backbone = loaded("text", learning=1)
    learning = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    output = backbone.forward_full({"input_ids": torch.ones(2, 8, dtype=torch.long)})
    output.last_hidden_state.square().sum().backward()
    assert any(bool((parameter.grad != 0).any()) for parameter in learning if parameter.grad is not None)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize("part", MODALITIES)
def test_random_numbers_do_not_depend_on_the_weight_cache(part: str) -> None:
    drawn = []
    for _ in range(2):
        loaded(part)
        drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


def test_the_mode_of_frozen_layers_is_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[nn.Module] = []
    train = nn.Module.train

    def counted(module: nn.Module, mode: bool = True) -> nn.Module:
        calls.append(module)
        return train(module, mode)

    monkeypatch.setattr(nn.Module, "train", counted)
    frozen, last = loaded("text"), loaded("text", learning=1)
    for backbone in (frozen, last):
        backbone.train()
        backbone.eval()
        calls.clear()
        backbone.train()
        top = {module for layer in backbone.layers[backbone.split_index :] for module in layer.modules()}
        assert set(calls) == top
        assert {module for module in backbone.model.modules() if module.training} == top


def test_a_copy_for_timing_shares_frozen_weights() -> None:
    backbone = loaded("text", learning=1)
    before = copy.deepcopy(backbone.state_dict())
    found: list[dict[str, int]] = []

    def step(network: Any) -> None:
        found.append(places(network))
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.add_(1.0)

    autotune(TrainingOptions(num_threads="auto", precision="auto"), backbone, step, None)
    if not found:
        pytest.skip("one processor without bf16 instructions: there is nothing to time")
    frozen = {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    own = places(backbone)
    assert {name for name in own if own[name] == found[0][name]} == frozen
    assert all(torch.equal(backbone.state_dict()[name], before[name]) for name in before)
