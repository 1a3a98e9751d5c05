"""Frozen matrices in 8 and 4 bits: the numbers, the gradient, what is kept, and checkpoints with them."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import nn

from laws.checkpoints import checkpoint
from laws.samples import network_of, prepare, sample_table, whole_batch
from polymodal.pretrained.quantized_linear import (
    NF4_BLOCK,
    NF4_VALUES,
    QuantizedLinear,
    dequantize_nf4,
    quantize_frozen_layers,
    quantize_nf4,
)

KINDS: tuple[Literal["int8", "nf4"], ...] = ("int8", "nf4")


def frozen(inputs: int, outputs: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs).requires_grad_(False)


@pytest.mark.parametrize("shape", [(1, 1), (3, 43), (64, 64), (5, 128)])
def test_each_weight_is_the_nearest_of_sixteen(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    weight[0, 0] = 0.0
    codes, scale = quantize_nf4(weight)
    found = dequantize_nf4(codes, scale, torch.tensor(NF4_VALUES))[: weight.numel()]
    flat = weight.reshape(-1)
    for start in range(0, len(flat), NF4_BLOCK):
        block = flat[start : start + NF4_BLOCK]
        choices = torch.tensor(NF4_VALUES) * block.abs().max()  # [16]
        nearest = (block[:, None] - choices).abs().min(1).values
        distance = (block - found[start : start + NF4_BLOCK]).abs()
        torch.testing.assert_close(distance, nearest, rtol=0, atol=1e-6)
    assert found[0] == 0
    assert len(codes) == -(-weight.numel() // 128) * 64
    assert torch.equal(quantize_nf4(found.view(shape))[0], codes)


@pytest.mark.parametrize("kind", KINDS)
def test_the_product_and_its_gradient_are_those_of_the_rounded_weight(kind: Literal["int8", "nf4"]) -> None:
    layer = frozen(48, 20)
    quantized = QuantizedLinear(layer, kind)
    limit = {"int8": 0.01, "nf4": 0.15}[kind]
    assert (quantized.weight - layer.weight).abs().max() <= limit * layer.weight.abs().max()
    x, other = (torch.randn(7, 48, generator=torch.Generator().manual_seed(2)).requires_grad_() for _ in range(2))
    found, expected = quantized(x), nn.functional.linear(other, quantized.weight, layer.bias)
    (found**2).sum().backward()
    (expected**2).sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(x.grad, other.grad)
    assert not [name for name, one in quantized.named_parameters() if one.requires_grad]


@pytest.mark.parametrize("kind", KINDS)
def test_no_weight_is_kept_for_the_gradient(kind: Literal["int8", "nf4"]) -> None:
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    network = nn.Sequential(*(QuantizedLinear(frozen(64, 64, seed), kind) for seed in range(3)))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.randn(2, 64).requires_grad_()).sum().backward()
    assert max(kept, default=0) < 64 * 64


def test_shared_and_trainable_matrices_stay() -> None:
    network = nn.Module()
    network.embeddings, network.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
    network.head.weight = network.embeddings.weight
    network.first, network.second = frozen(4, 4), nn.Linear(4, 4)
    network.head.requires_grad_(False)
    assert quantize_frozen_layers(network, "nf4") == 1
    assert isinstance(network.first, QuantizedLinear)
    assert type(network.second) is type(network.head) is nn.Linear


def encoder_of(modality: str, **options: Any) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    columns, recipe = sample_table([modality], ["regression"], rows=8)
    encoder = {"name": f"pretrained_{modality}", "checkpoint": checkpoint(modality), **options}
    recipe["inputs"][f"in_{modality}"]["encoder"] = encoder
    preparation, prepared = prepare(columns, **recipe)
    data = whole_batch(preparation, prepared).inputs[f"in_{modality}"].data
    return next(iter(network_of(preparation).encoders().values())), data


@pytest.mark.parametrize("modality", ["text", "image", "audio", "video"])
@pytest.mark.parametrize("options", [{"fine_tuning": "last"}, {"fine_tuning": "lora"}, {"fine_tuning": "dora"}])
def test_quantized_checkpoints_are_close_and_train(modality: str, options: dict[str, Any]) -> None:
    plain, data = encoder_of(modality, **options)
    expected = plain.eval()(data)[0].detach()
    sizes, gaps = [sum(one.nbytes for one in plain.state_dict().values())], []
    for kind in KINDS:
        encoder, _ = encoder_of(modality, **options, quantization=kind)
        found = encoder.eval()(data)[0]
        gaps.append(float((found.detach() - expected).norm() / expected.norm()))
        sizes.append(sum(one.nbytes for one in encoder.state_dict().values()))
        layers = [one for one in encoder.modules() if isinstance(one, QuantizedLinear)]
        assert layers
        assert not [one for one in layers if one.codes.is_floating_point()]
        found.square().sum().backward()
        assert all(one.grad is not None for one in encoder.parameters() if one.requires_grad)
    assert gaps[0] < 0.03
    assert gaps[0] < gaps[1] < 0.5
    assert sizes[0] > sizes[1] > sizes[2]
