"""Law 12: every component computes on a device that is not the CPU, with the values of the CPU, and waits for it only
where it must."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.device_reads import ALLOWED, PACKAGE, may_wait, waiting_calls
from laws.objectives import OBJECTIVES, loss_of, step_of, with_objective
from laws.samples import (
    TEXT_DECODERS,
    light,
    network_of,
    prepare,
    sample_table,
    total_loss,
)
from laws.test_determinism import SINGLE, network_with
from polymodal.core.types import Batch
from polymodal.generation.config import GenerationConfig
from polymodal.inference.text_generation import generate_texts
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation
from simulated_device import MixedDevices, recorded_synchronizations, simulated_device

#: fp32 sums in another order: an accelerator pads where the CPU leaves out.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture
def device() -> Iterator[str]:
    with simulated_device() as name:
        yield name


def assert_only_allowed(reads: list[str]) -> None:
    """No other function waits for the device."""
    found = {read for read in reads if not read.startswith("backward")}  # of an operation that is listed itself
    assert sorted(read for read in found if not may_wait(read.split(" ")[0])) == []


def gradients_of(preparation: Preparation, network: Network, batch: Batch) -> list[Tensor]:
    """The loss and the gradients without random layers, whose numbers depend on the padding."""
    network.eval().zero_grad()
    loss = total_loss(preparation, network, batch)
    loss.backward()
    return [loss.detach(), *(one.grad for one in network.parameters() if one.grad is not None)]


def evaluated(network: Network, batch: Batch) -> list[Tensor]:
    with torch.inference_mode():
        return [output.values for output in network.eval()(batch).values()]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.device.type == "simulated"
        torch.testing.assert_close(one.cpu(), other, **CLOSE)


#: Options that compute in another way than the defaults.
FURTHER: list[tuple[str, dict[str, Any]]] = [
    ("encoder", light({"name": "pretrained_text", "fine_tuning": "lora", "quantization": "int8"})),
    ("encoder", light({"name": "pretrained_image", "fine_tuning": "last", "quantization": "nf4"})),
    ("decoder", light({"name": "causal_lm", "fine_tuning": "lora", "quantization": "nf4"})),
    ("decoder", light({"name": "causal_lm", "conditioning": "cross_attention"})),
]


@pytest.mark.parametrize(("kind", "options"), [*SINGLE, *FURTHER], ids=str)
def test_of_every_network(kind: str, options: dict[str, Any], device: str) -> None:
    """In training and in evaluation, of every encoder, fusion and decoder."""
    preparation, network, batch = network_with(kind, options)
    own = copy.deepcopy(network).to(device)
    moved = batch.to(device)
    with recorded_synchronizations() as reads:
        total_loss(preparation, own.train(), moved).backward()
    own.load_state_dict(network.state_dict())  # without the statistics of the step
    with recorded_synchronizations() as more:
        gradients = gradients_of(preparation, own, moved)
        values = evaluated(own, moved)
    reads += more
    assert_only_allowed(reads)
    assert_close(gradients, gradients_of(preparation, network, batch))
    assert_close(values, evaluated(network, batch))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_of_every_objective(name: str, device: str) -> None:
    """The first loss, and two steps of training."""
    preparation, prepared, network = with_objective({"name": name})
    own = copy.deepcopy(network).to(device)
    elsewhere = _Moved(preparation, device)
    losses = []
    for one, its in ((network, preparation), (own, elsewhere)):
        torch.manual_seed(1)
        with recorded_synchronizations() as reads:
            loss = loss_of(preparation, one.train(), step_of(its, prepared, one))
            loss.backward()
            (objective,) = one.objectives.values()
            objective.after_step(one)
            loss_of(preparation, one, step_of(its, prepared, one)).backward()
        losses.append(loss.detach())
        assert_only_allowed(reads)
    assert_close(losses[1:], losses[:1])


class _Moved(Preparation):
    """A preparation whose batches are on a device."""

    def __init__(self, preparation: Preparation, device: str) -> None:
        self.__dict__ |= vars(preparation)
        self.device = device

    def batch(self, *arguments: Any, **options: Any) -> Batch:
        return super().batch(*arguments, **options).to(self.device)


SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "sampling": {"temperature": 0.7},
    "choices": {"choices": ["amber birch", "frost"], "max_new_tokens": 12},
    "beams of choices": {"num_beams": 2, "choices": ["amber birch", "frost"], "max_new_tokens": 12},
    "stop strings": {"stop_strings": ["a"]},
    "several": {"temperature": 1.0, "num_return_sequences": 2, "repetition_penalty": 1.2, "top_k": 5},
}


@pytest.fixture(scope="module")
def generating() -> dict[str, Any]:
    return {}


#: The state of a decoder is stepped and reordered by two searches; the others are the same code for every decoder.
GENERATED = [(decoder, search) for decoder in TEXT_DECODERS for search in ("greedy", "beams")]
GENERATED += [("lstm", search) for search in SEARCHES if search not in ("greedy", "beams")]


@pytest.mark.parametrize(("decoder", "search"), GENERATED)
def test_of_every_search(decoder: str, search: str, device: str, generating: dict[str, Any]) -> None:
    """The texts are those of the CPU."""
    if decoder not in generating:
        columns, recipe = sample_table(["text", "time_series"], ["text_generation"], rows=8)
        columns["text"][1], columns["time_series"][2], columns["y_text_generation"][3] = None, None, None
        recipe["outputs"]["y_text_generation"]["decoder"] = light({"name": decoder})
        generating[decoder] = prepare(columns, **recipe, fusion="late")
    preparation, prepared = generating[decoder]
    network, batch = network_of(preparation).eval(), preparation.batch(prepared, np.arange(8))
    task, config = preparation.tasks["y_text_generation"], GenerationConfig(**{"max_new_tokens": 4} | SEARCHES[search])
    texts = []
    for one, its in ((network, batch), (copy.deepcopy(network).to(device), batch.to(device))):
        with recorded_synchronizations() as reads, torch.inference_mode():
            branches = one.encode_and_fuse(its)
            texts.append(generate_texts(one, "y_text_generation", task, branches, its, config, batch.rows.numpy()))
        assert_only_allowed(reads)
    of_cpu, of_device = ([[text.tokens for text in row] for row in found] for found in texts)
    assert of_device == of_cpu


def test_no_hot_path_waits_for_a_device() -> None:
    """The source reads values of tensors in these functions only, and each entry of the list is a function."""
    found = waiting_calls()
    assert sorted(place for place in found if not may_wait(place)) == []
    for place in ALLOWED:
        file, _, name = place.partition("::")
        assert f"def {name}(" in (PACKAGE / file).read_text(encoding="utf-8"), place


def test_the_check_finds_a_tensor_of_another_device(device: str) -> None:
    _, network, batch = network_with("fusion", {"name": "concat"})
    own = copy.deepcopy(network).to(device)
    with pytest.raises(MixedDevices, match=r"nn/.*\.py::\w+"):
        own(batch)
    tensor = torch.zeros(3, device=device)
    with recorded_synchronizations() as reads:
        assert float(tensor.sum()) == 0
        _ = tensor[tensor == 0], tensor.cpu(), tensor.tolist()
    assert len(reads) == 4
