"""A network that is split between two layers gives the same output as the whole, for all architectures."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.nn.encoders.pretrained_text import PretrainedText
from polymodal.pretrained import fine_tuning
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from pretrained.kinds import KINDS, backbone, card, inputs

#: Beside hidden states and summaries: what speech networks also return of their front end is not read by anything.
UNREAD = {"extract_features"}


def tensors(output: Any) -> dict[str, Tensor]:
    return {name: value for name, value in output.items() if isinstance(value, Tensor) and name not in UNREAD}


@pytest.mark.parametrize("name", KINDS)
def test_lower_then_upper_equals_the_whole_at_every_split(name: str) -> None:
    network, given, blank = backbone(name), inputs(name), inputs(name, blank=True)
    with torch.no_grad():
        whole = tensors(network.forward_full(given))
        assert network.num_layers >= 3
        for cut in range(1, network.num_layers + 1):
            network.split_index = cut
            hidden = network.forward_lower(given)
            assert hidden.ndim == 3
            assert hidden.shape[2] == network.split_width
            parts = tensors(network.forward_upper(hidden, blank))
            assert parts.keys() == whole.keys()
            for key, value in whole.items():
                torch.testing.assert_close(parts[key], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_layers_above_the_split_get_the_gradient_of_the_whole(name: str) -> None:
    network, given, blank = backbone(name), inputs(name), inputs(name, blank=True)
    network.split_index = network.num_layers - 1
    learning = [p for part in [network.layers[-1], *network.output_modules()] for p in part.parameters()]
    for parameter in learning:
        parameter.requires_grad_(True)
    score(tensors(network.forward_full(given))).backward()
    expected = [None if p.grad is None else p.grad.clone() for p in learning]
    network.zero_grad(set_to_none=True)
    with torch.no_grad():
        hidden = network.forward_lower(given)
    score(tensors(network.forward_upper(hidden, blank))).backward()
    assert any(gradient is not None and bool(gradient.abs().max() > 0) for gradient in expected)
    for parameter, gradient in zip(learning, expected, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-6)


def score(found: dict[str, Tensor]) -> Tensor:
    return torch.stack([(value * torch.linspace(-1, 1, value.shape[-1])).sum() for value in found.values()]).sum()


@pytest.mark.parametrize("name", ["bert", "clip:image", "wav2vec2:layer", "efficientnet_lite", "t5"])
def test_a_copy_can_be_split(name: str) -> None:
    network, given = backbone(name), inputs(name)
    network.split_index = 2
    with torch.no_grad():
        expected = tensors(network.forward_upper(network.forward_lower(given), given))
        twin = copy.deepcopy(network)
        for parameter in network.parameters():
            parameter.zero_()
        found = tensors(twin.forward_upper(twin.forward_lower(given), given))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["bert", "modernbert", "vit", "whisper", "wav2vec2:layer", "resnet"])
def test_the_split_is_exact_in_bf16(name: str) -> None:
    network, given, blank = backbone(name), inputs(name), inputs(name, blank=True)
    network.split_index = 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole, hidden = tensors(network.forward_full(given)), network.forward_lower(given)
        parts = tensors(network.forward_upper(hidden, blank))
    for key, value in whole.items():
        torch.testing.assert_close(parts[key].float(), value.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "llama", "vit", "videomae", "wav2vec2:layer", "whisper"])
def test_gradient_checkpointing_gives_the_same_gradients(name: str) -> None:
    network, given, blank = backbone(name), inputs(name), inputs(name, blank=True)
    network.split_index = 1
    for layer in network.layers[1:]:
        layer.requires_grad_(True)
    with torch.no_grad():
        hidden = network.forward_lower(given)
    found = []
    for again in (False, True):
        if again:
            network.enable_gradient_checkpointing()
        network.zero_grad(set_to_none=True)
        network.train()
        torch.manual_seed(0)
        score(tensors(network.forward_upper(hidden, blank))).backward()
        found.append([p.grad for layer in network.layers[1:] for p in layer.parameters()])
    for kept, computed in zip(*found, strict=True):
        assert (kept is None) == (computed is None)
        if kept is not None:
            torch.testing.assert_close(computed, kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "dear"), [("wav2vec2:layer", "feature_extractor"), ("vit", "embeddings")])
def test_front_ends_do_not_run_above_the_split(name: str, dear: str) -> None:
    network, given = backbone(name), inputs(name)
    network.split_index = 1
    calls: list[int] = []
    with torch.no_grad():
        hidden = network.forward_lower(given)
        network.forward_upper(hidden, given)
        for module in network.model.get_submodule(dear).modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d):
                module.register_forward_hook(lambda *_: calls.append(1))
        network.forward_upper(hidden, given)
        assert not calls
        network.forward_lower(given)
        assert calls


def albert() -> Backbone:
    """All its layers are the same module."""
    config = {**card("bert").config, "model_type": "albert", "embedding_size": 8}
    return Backbone(CheckpointConfig("albert", "", "", "", {"config": config}), "text").eval()


def test_networks_with_shared_layers_cannot_be_split() -> None:
    network = albert()
    network.split_index = 1
    with pytest.raises(RecipeError, match="`freeze` or `full`"):
        network.forward_upper(torch.zeros(3, 7, 16), inputs("bert"))
    with pytest.raises(RecipeError, match="`freeze` or `full`"):
        fine_tuning.apply_fine_tuning(albert(), PretrainedText.Options(fine_tuning="last"))


def test_shared_layers_have_one_learning_rate() -> None:
    network, options = albert(), PretrainedText.Options(fine_tuning="full", lr_multiplier=0.2)
    fine_tuning.apply_fine_tuning(network, options)
    assert set(fine_tuning.lr_multipliers(network, options).values()) == {0.2}
    with pytest.raises(RecipeError, match="one after another"):
        fine_tuning.apply_fine_tuning(albert(), PretrainedText.Options(fine_tuning="full", layer_decay=0.5))
