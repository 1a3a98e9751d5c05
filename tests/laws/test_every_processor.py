"""Law 11: on every processor, the number formats that are used are right, and none of them fails.

A model that was trained in bf16 is used on a processor without bf16 instructions, and the reverse. Its values then
differ by no more than the rounding of bf16.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from laws.samples import (
    TEXT_DECODERS,
    VALUE_DECODERS,
    light,
    network_of,
    prepare,
    sample,
    sample_table,
    small,
    total_loss,
)
from polymodal.core.registry import components
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.runtime.compute import ComputeConfig
from polymodal.runtime.cpu_kernels import can_prepack

ENCODERS = [(encoder.modality, name) for name, encoder in components("encoder").items()]
#: Largest difference of values in bf16 from those in fp32, in units of their root mean square.
TOLERANCE = 0.15
#: bf16 where oneDNN has kernels for it, even if they are slower than fp32; else what the package computes in its place.
BF16 = ComputeConfig("bf16") if can_prepack(torch.bfloat16) else ComputeConfig("bf16").supported()


def assert_formats_agree(preparation: Preparation, prepared: PreparedTable, network: Network) -> None:
    """In evaluation, the values in bf16 are those in fp32 but for rounding; in training, gradients are finite."""
    batch = preparation.batch(prepared, np.arange(prepared.rows))
    values = []
    for compute in (ComputeConfig(), BF16):
        with torch.inference_mode(), compute.active():
            values.append({name: output.values.float() for name, output in network.eval()(batch).items()})
    for name, exact in values[0].items():
        size = exact.square().mean().sqrt().clamp_min(1e-3)
        assert (values[1][name] - exact).abs().max() <= TOLERANCE * size
    with BF16.active():
        total_loss(preparation, network.train(), batch).backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(("modality", "encoder"), ENCODERS)
def test_bf16_of_every_encoder(modality: str, encoder: str) -> None:
    columns = sample("modality", modality, rows=8) | sample("task", "regression", rows=8)
    spec = {"modality": small(modality), "columns": list(sample("modality", modality, rows=8))}
    preparation, prepared = prepare(
        columns, inputs={"x": {**spec, "encoder": light({"name": encoder})}}, outputs={"target": "regression"}
    )
    assert_formats_agree(preparation, prepared, network_of(preparation))


@pytest.mark.parametrize("fusion", components("fusion"))
def test_bf16_of_every_fusion(fusion: str) -> None:
    columns, recipe = sample_table(["text", "number", "category"], ["classification", "regression"], rows=8)
    preparation, prepared = prepare(columns, **recipe, fusion=fusion)
    assert_formats_agree(preparation, prepared, network_of(preparation))


@pytest.mark.parametrize("decoder", VALUE_DECODERS)
def test_bf16_of_every_decoder(decoder: str) -> None:
    columns, recipe = sample_table(["text", "time_series"], ["event_detection", "classification"], rows=8)
    for output in recipe["outputs"].values():
        output["decoder"] = decoder
    preparation, prepared = prepare(columns, **recipe)
    assert_formats_agree(preparation, prepared, network_of(preparation))


@pytest.mark.parametrize("decoder", TEXT_DECODERS)
def test_bf16_of_every_text_decoder(decoder: str) -> None:
    columns, recipe = sample_table(["text", "time_series"], ["text_generation"], rows=8)
    recipe["outputs"]["y_text_generation"]["decoder"] = light({"name": decoder})
    preparation, prepared = prepare(columns, **recipe)
    assert_formats_agree(preparation, prepared, network_of(preparation))
