"""The device of a recipe, and the state of random generators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from laws.samples import network_of, prepare, sample_table, whole_batch
from polymodal import fit, load
from polymodal.core.errors import RecipeError
from polymodal.datasets import make_exclusive_or
from polymodal.inference.predictor import Predictor
from polymodal.runtime.compute import network_device, resolve_device
from polymodal.runtime.random_state import isolated_random_state, random_state, restore_random_state


def test_a_device_that_is_not_there_is_refused_before_rows_are_prepared() -> None:
    with pytest.raises(
        RecipeError, match=r"^training\.device: there is no cuda:63 on this machine .*; choose from auto, cpu"
    ):
        fit(make_exclusive_or(40, seed=0), "target", settings=["training.device=cuda:63"])
    with pytest.raises(RecipeError, match=r"training\.device"):
        fit(make_exclusive_or(40, seed=0), "target", settings=["training.device=gpu"])
    with pytest.raises(RecipeError, match=r"^device: there is no device 'tpu'"):
        resolve_device("tpu", "device")


def test_a_model_is_read_back_for_a_device_of_its_own(tmp_path: Path) -> None:
    settings = [
        "training.epochs=1",
        "training.device=cpu",
        "evaluation.bootstrap_samples=0",
        "evaluation.unimodal_scores=none",
    ]
    model = fit(make_exclusive_or(40, seed=0), "target", settings=settings, out=tmp_path / "run")
    assert model.run.compute is not None
    assert model.run.compute.device == model.compute.device == resolve_device("cpu")
    assert load(tmp_path / "run").recipe.training.device == "cpu"
    with pytest.raises(RecipeError, match="device"):
        load(tmp_path / "run", device="cuda:63")


def test_a_predictor_leaves_the_mode_of_the_network_and_moves_its_batches() -> None:
    columns, recipe = sample_table(["number", "category"], ["classification"], rows=6)
    preparation, prepared = prepare(columns, **recipe)
    network = network_of(preparation).train()
    predictor = Predictor(network, preparation)
    with predictor.running():
        assert not network.training
        assert torch.is_inference_mode_enabled()
    assert network.training
    batch = predictor.batch(prepared, np.arange(6))
    assert {one.index.device for one in batch.inputs.values()} == {torch.device(network_device(network))}
    assert len(whole_batch(preparation, prepared).to("meta")) == 6
    assert whole_batch(preparation, prepared).to("meta").targets["y_classification"].value.device.type == "meta"


def test_what_is_drawn_in_a_block_leaves_no_trace() -> None:
    torch.manual_seed(3)
    before, expected = random_state(), torch.rand(2)
    restore_random_state(before)
    with isolated_random_state(7):
        first = torch.rand(2)
    with isolated_random_state(7):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.rand(2), expected)
