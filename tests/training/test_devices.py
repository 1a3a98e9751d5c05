"""Training on a device that is not the CPU, with a full memory, and in fp16."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.single_steps import stepping
from torch import Tensor, nn
from torch.amp import GradScaler

from laws.device_reads import may_wait
from laws.objectives import inputs_of
from laws.samples import Columns, experiment, sample_table
from laws.test_resume import Killed, KilledAt
from polymodal.core.errors import RecipeError, TrainingError
from polymodal.core.progress import Progress
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.train import train_model
from polymodal.model.make_network import make_network
from polymodal.model.model import Model
from polymodal.nn.network import Network
from polymodal.runtime.compute import resolve_device
from polymodal.training.batch_loader import BatchLoader
from polymodal.training.fingerprint import run_fingerprint
from polymodal.training.memory_plan import plan_memory, row_bytes, saved_bytes
from polymodal.training.trainer import Trainer
from simulated_device import recorded_synchronizations, simulated_device

TASKS = ["classification", "multilabel_classification", "regression", "text_generation"]
TRAINING = {"epochs": 2, "batch_size": 8, "average_top_k": 1}


def table(rows: int = 64) -> tuple[Columns, dict[str, Any]]:
    """Three inputs and four outputs, some of which are missing in some rows."""
    columns, recipe = sample_table(["text", "number", "category"], TASKS, rows)
    for place, task in enumerate(TASKS):
        columns[f"y_{task}"][3 + place :: 7] = [None] * len(columns[f"y_{task}"][3 + place :: 7])
    recipe["outputs"]["y_text_generation"]["decoder"] = {"name": "transformer", "num_layers": 1, "dropout": 0.0}
    return columns, recipe


def prepared(folder: Path, **changes: Any) -> Experiment:
    columns, recipe = table()
    training = TRAINING | changes.pop("training", {})
    return experiment({"train": columns, "validation": columns}, folder, **recipe, training=training, **changes)


def trained_model(one: Experiment, folder: Path | None = None, **options: Any) -> Model:
    if folder is not None:
        folder.mkdir(exist_ok=True)
    return train_model(one, folder=folder, progress=options.pop("progress", Progress(False)), **options)


def test_a_run_on_a_device_is_that_on_the_cpu_and_does_not_wait(tmp_path: Path) -> None:
    """16 steps, of which the first five are logged; then the model predicts and is saved."""
    one = prepared(tmp_path / "cpu", fusion="attention", training={"modality_dropout": 0.0})
    expected = trained_model(one)
    rows = {name: cells[:5] for name, cells in table()[0].items()}
    with simulated_device() as device:
        other = prepared(tmp_path / "device", fusion="attention", training={"modality_dropout": 0.0})
        with recorded_synchronizations() as reads:
            found = trained_model(other)
        assert {one.device.type for one in found.network.parameters()} == {torch.device(device).type}
        found.save(tmp_path / "saved")
        of_device = found.predict(rows)
    places = Counter(read.split(" ")[0] for read in reads if not read.startswith("backward"))
    assert [place for place in places if not may_wait(place)] == []
    assert places["training/monitor.py::check_finite"] == 5
    for name, tensor in found.network.state_dict().items():
        torch.testing.assert_close(tensor.cpu(), expected.network.state_dict()[name], rtol=1e-2, atol=1e-3)
    again = Model.load(tmp_path / "saved", device="cpu").predict(rows)
    assert list(of_device["y_classification"]) == list(again["y_classification"])


def test_a_run_on_a_device_resumes_to_the_bit(tmp_path: Path) -> None:
    with simulated_device():
        whole = trained_model(prepared(tmp_path / "whole"), tmp_path / "a")
        one = prepared(tmp_path / "killed", training={"save_steps": 3})
        with pytest.raises(Killed):
            trained_model(one, tmp_path / "b", progress=KilledAt(5))
        resumed = trained_model(one, tmp_path / "b", resume=True)
        for name, tensor in resumed.network.state_dict().items():
            assert torch.equal(tensor.cpu(), whole.network.state_dict()[name].cpu()), name


class FullMemory:
    """Raises the error of a full memory where a module of the network gets more rows or items than fit."""

    def __init__(self, module: nn.Module, fit: int, size: Callable[[Any], int]) -> None:
        self.fit, self.size, self.errors = fit, size, 0
        module.register_forward_pre_hook(self.check)

    def check(self, module: nn.Module, arguments: Any) -> None:
        if self.size(arguments) > self.fit:
            self.errors += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def rows_of_tokens(arguments: Any) -> int:
    return len(next(iter(arguments[0].values())).present)


def items_of_data(arguments: Any) -> int:
    return len(next(iter(arguments[0].values())))


def trainer(one: Experiment) -> Trainer:
    torch.manual_seed(0)
    network = make_network(one.recipe, one.preparation)
    for module in network.modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and (name == "p" or "dropout" in name):
                setattr(module, name, 0.0)  # its draws depend on the parts
    return Trainer(one.recipe, network, one.preparation, one.splits)


def weights(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("fusion", ["attention", "late", "mixture"])
def test_a_full_memory_splits_the_batch_and_keeps_its_gradient(fusion: str, tmp_path: Path) -> None:
    """With missing targets and inputs, so that the parts have different denominators."""
    one = prepared(tmp_path, fusion=fusion, training={"modality_dropout": 0.0, "epochs": 1})
    whole, split = trainer(one), trainer(one)
    full = FullMemory(split.network.fusion, 2, rows_of_tokens)
    rows = whole.batches[0]
    for own in (whole, split):
        with stepping(own):
            own._step(rows)
    assert full.errors == 2  # with 8 and with 4 rows
    assert split.step.parts.count == 4
    assert "computed in 4 parts" in split.monitor.notices[-1]
    for (name, mine), its in zip(split.network.named_parameters(), whole.network.parameters(), strict=True):
        if fusion != "mixture":  # the penalty of a mixture compares the rows of a part
            torch.testing.assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-6, msg=name)
        assert mine.grad is None or bool(torch.isfinite(mine.grad).all())


def test_a_full_memory_of_compared_rows_splits_the_encoders(tmp_path: Path) -> None:
    columns, inputs = inputs_of(24)
    recipe = {"inputs": {name: inputs[name] for name in ("in_text", "in_image")}, "objectives": ["contrastive"]}
    training = {"epochs": 1, "batch_size": 8}
    one = experiment({"train": columns, "validation": columns}, tmp_path, **recipe, training=training)
    whole, split = trainer(one), trainer(one)
    full = FullMemory(split.network.encoders()["in_text"], 4, items_of_data)
    for own in (whole, split):
        torch.manual_seed(0)
        with stepping(own):
            own._step(whole.batches[0])
    assert full.errors == 1
    assert split.network.towers["in_text"].chunk_size == 4
    for (name, mine), its in zip(split.network.named_parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_one_row_that_does_not_fit_stops_training(tmp_path: Path) -> None:
    one = trainer(prepared(tmp_path))
    FullMemory(one.network.fusion, 0, rows_of_tokens)
    with stepping(one), pytest.raises(TrainingError, match="full with one row at a time: use a smaller model"):
        one._step(one.batches[0])


def test_the_plan_of_memory_says_what_fits(tmp_path: Path) -> None:
    network = nn.Linear(100, 10)
    assert plan_memory(network, rows=64, per_row=1_000, free=200_000).parts == 1
    plan = plan_memory(network, rows=64, per_row=1_000, free=50_000)
    assert plan.state == 12 * 1_010
    assert plan.parts * (int(0.85 * 50_000) - plan.state) >= 64 * 1_000
    with pytest.raises(TrainingError, match=r"At most 333 trainable parameters would fit: use a smaller model"):
        plan_memory(network, rows=64, per_row=1_000, free=5_883)
    x = torch.randn(32, 100)
    assert saved_bytes(lambda: torch.relu(network(x)).sum()) == x.nbytes + 4 * 32 * 10
    one = trainer(prepared(tmp_path))
    few, more = (one._batch(one.batches[0][:rows], augment=False) for rows in (4, 8))
    each = [
        row_bytes(one.network, lambda trial, some=some: one.step.losses(trial, some, lambda: some, 0.0, 0.0), len(some))
        for some in (few, more)
    ]
    assert 0 < each[1] <= 1.5 * each[0]
    assert all(parameter.grad is None for parameter in one.network.parameters())


def test_scaled_gradients_change_nothing_and_skip_what_is_not_finite(tmp_path: Path) -> None:
    one = prepared(tmp_path)
    plain, scaled = trainer(one), trainer(one)
    scaled.step.scaler = GradScaler("cpu", init_scale=2.0**10)
    rows = plain.batches[0]
    for own in (plain, scaled):
        torch.manual_seed(0)
        with stepping(own):
            own._step(rows)
    expected = weights(plain.network)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(scaled.network).items())
    scaled.step.scaler = GradScaler("cpu", init_scale=2.0**127)  # the gradients overflow
    with stepping(scaled):
        scaled._step(rows)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(scaled.network).items())
    assert scaled.step.scaler.get_scale() == 2.0**126


def test_a_batch_is_loaded_onto_the_device(tmp_path: Path) -> None:
    one = trainer(prepared(tmp_path))
    loader = BatchLoader(lambda rows: one._build(rows, augment=False), "meta")
    loader.prefetch(one.batches[0])  # without streams this does nothing
    assert {tensor.device.type for tensor in loader.load(one.batches[0]).tensors()} == {"meta"}


def test_the_device_belongs_to_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = prepared(tmp_path)
    training = one.recipe.training.model_copy(update={"device": "cuda:7"})
    elsewhere = one.recipe.model_copy(update={"training": training})
    train = one.splits["train"]
    assert run_fingerprint(one.recipe, train) == run_fingerprint(elsewhere, train)
    monkeypatch.setenv("POLYMODAL_DEVICE", "cpu")
    with simulated_device():
        assert resolve_device("auto") == "cpu"
        assert resolve_device("simulated:0") == "simulated:0"
    monkeypatch.setenv("POLYMODAL_DEVICE", "cuda:63")
    with pytest.raises(RecipeError, match=r"^POLYMODAL_DEVICE: there is no cuda:63 on this machine"):
        resolve_device("auto")
    with pytest.raises(RecipeError, match="there is no xpu:1 on this machine"):
        resolve_device("xpu:1")
