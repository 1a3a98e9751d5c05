"""The pieces of the training loop: loss, schedule, modality dropout, averaging, monitor, choice of machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from polymodal.checkpoint.training_state_file import TrainingState, read_checkpoint, write_checkpoint
from polymodal.core.errors import ArtifactError, TrainingError
from polymodal.core.progress import Progress
from polymodal.datasets import planted
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.model.make_network import make_network
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.autotune import autotune
from polymodal.runtime.compute import ComputeConfig
from polymodal.training.averaging import BestEpochs
from polymodal.training.loss import Loss
from polymodal.training.modality_dropout import apply_modality_dropout
from polymodal.training.monitor import Monitor
from polymodal.training.optimizer import EagerAdamW, freeze_parts, make_optimizer
from polymodal.training.schedule import Schedule
from polymodal.training.trainer import Trainer
from polymodal.workflows.fit import plan_fit
from setting_lists import replaced

SETTINGS = [
    "hidden_size=16",
    "training.epochs=4",
    "training.batch_size=32",
    "training.precision=fp32",
    "training.num_threads=1",
]


def experiment(tmp_path: Path, *settings: str, rows: int = 240, target: Any = "target") -> Experiment:
    plan, parts = plan_fit(planted.make_exclusive_or(rows, 0), target, settings=replaced(SETTINGS, *settings))
    return prepare_experiment(plan.recipe, parts, folder=tmp_path, cache=None, progress=Progress(False))


def trainer(one: Experiment, **keywords: Any) -> Trainer:
    torch.manual_seed(0)
    network = make_network(one.recipe, one.preparation)
    return Trainer(one.recipe, network, one.preparation, one.splits, **keywords)


def test_hidden_inputs_leave_every_row_at_least_one() -> None:
    one = mixed_batch()
    torch.manual_seed(0)
    shares = []
    for _ in range(50):
        hidden = apply_modality_dropout(one, 0.5)
        left = torch.stack([one.inputs[name].present & ~hidden[name] for name in one.inputs], dim=1)
        had = torch.stack([one.inputs[name].present for name in one.inputs], dim=1)
        assert bool((left.any(1) == had.any(1)).all())
        shares.append((had & ~left).sum().item() / had.sum().item())
    assert 0.3 < np.mean(shares) < 0.5
    assert apply_modality_dropout(one, 0.0) == {}


def mixed_batch() -> Any:
    plan, parts = plan_fit(planted.make_mixed(64, 0, missing_ratio=0.3), "answer", settings=SETTINGS)
    with Progress(False).task("", None):
        from polymodal.data.table.cell_errors import CellErrors
        from polymodal.preparation.preparation import Preparation

        preparation = Preparation(plan.recipe)
        preparation.fit(parts["train"].table, parts["train"].rows)
        prepared = preparation.prepare(parts["train"].table, CellErrors(), folder=None, cache=None)
    return preparation.batch(prepared, np.arange(64))


def test_frozen_parts_stay_and_rates_apply(tmp_path: Path) -> None:
    one = experiment(
        tmp_path,
        "training.param_groups.inputs.numbers.encoder.freeze=true",
        "training.param_groups.fusion.lr_multiplier=0.25",
        "fusion=concat",
    )
    run = trainer(one)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    rates = {id(p): group["lr"] for group in run.optimizer.param_groups for p in group["params"]}
    run.run()
    encoder = {id(p) for p in run.network.modules_by_path()["inputs.numbers.encoder"].parameters()}
    for name, parameter in run.network.named_parameters():
        same = torch.equal(before[name], parameter)
        assert same == (id(parameter) in encoder) or ".missing" in name, name
    fusion = [rates[id(p)] for p in run.network.fusion.parameters()]
    heads = [rates[id(p)] for p in run.network.decoders.parameters()]
    assert fusion
    assert all(np.isclose(fusion[0] / rate, 0.25) for rate in heads)


def test_the_optimizer_computes_the_steps_of_its_parent_class() -> None:
    """To the bit, also continued from a saved state."""
    weights: list[torch.Tensor] = []
    for kind in (EagerAdamW, torch.optim.AdamW):
        generator = torch.Generator().manual_seed(0)
        parameter = nn.Parameter(torch.randn(5, 3, generator=generator))
        optimizer = kind([{"params": [parameter], "lr": 0.1, "weight_decay": 0.3}])
        for step in range(6):
            optimizer.zero_grad()
            assert parameter.grad is None
            (parameter * torch.randn(5, 3, generator=generator)).sum().backward()
            optimizer.step()
            if step == 2:
                state, optimizer = optimizer.state_dict(), kind([parameter])
                optimizer.load_state_dict(state)
        weights.append(parameter.detach())
    assert torch.equal(*weights)


def test_uncertainty_balancing_learns_its_weights_and_lowers_the_noisy_output(tmp_path: Path) -> None:
    columns = planted.make_exclusive_or(400, 0)
    columns["noise"] = np.random.default_rng(0).normal(size=400).tolist()
    settings = replaced(
        SETTINGS, "training.loss_balancing=uncertainty", "training.epochs=30", "training.learning_rate=0.01"
    )
    plan, parts = plan_fit(columns, ["target", "noise"], settings=settings)
    one = prepare_experiment(plan.recipe, parts, folder=tmp_path, cache=None, progress=Progress(False))
    run = trainer(one)
    run.run()
    clear, noisy = run.loss.log_variance.detach().tolist()
    assert clear < noisy


def test_the_warm_up_rises_and_the_cosine_falls() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = Schedule(optimizer, 10, 10, 0.1, 10).rates
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01


def test_best_epochs_are_kept_in_order_and_averaged() -> None:
    best, layer = BestEpochs(2), nn.Linear(1, 1, bias=False)
    flags = []
    for epoch, (score, weight) in enumerate([(0.1, 1.0), (0.5, 2.0), (0.3, 4.0), (0.5, 9.0)], start=1):
        nn.init.constant_(layer.weight, weight)
        flags.append(best.offer(score, epoch, layer))
    assert flags == [True, True, False, False]
    assert best.epochs == [2, 4]
    assert float(best.best()["weight"]) == 2.0
    assert float(best.average()["weight"]) == 5.5


def test_the_monitor_names_the_first_tensor_that_is_not_finite(tmp_path: Path) -> None:
    run = trainer(experiment(tmp_path))
    with torch.no_grad():
        run.network.decoders["target"]["joint"].layers[0].bias[0] = float("nan")
    with pytest.raises(TrainingError, match=r"parameter decoders\.target\.joint\.layers\.0\.bias is not finite"):
        run.run()


def test_the_monitor_notices_an_input_without_gradient() -> None:
    monitor = Monitor.__new__(Monitor)
    monitor.notices, monitor.zero_grad_steps = [], {}
    for _ in range(7):
        monitor.check_gradients({"image": 0.0, "text": 0.3})
    assert monitor.notices == ["input 'image' gets no gradient: its encoder output does not reach the loss"]


def test_the_monitor_notices_a_loss_at_chance(tmp_path: Path) -> None:
    columns = planted.make_exclusive_or(300, 0)
    columns["target"] = np.random.default_rng(1).permutation(columns["target"]).tolist()
    plan, parts = plan_fit(columns, "target", settings=replaced(SETTINGS, "training.learning_rate=0.00001"))
    one = prepare_experiment(plan.recipe, parts, folder=tmp_path, cache=None, progress=Progress(False))
    assert any("has not improved on its baseline after 3 epochs" in notice for notice in trainer(one).run().notices)
    assert not trainer(experiment(tmp_path / "good", "training.learning_rate=0.02", rows=600)).run().notices


def test_a_loss_at_chance_is_judged_after_the_warmup_and_can_be_withdrawn(tmp_path: Path) -> None:
    """With a warmup of half of ten epochs, the sixth is the first epoch without warmup."""
    run = trainer(experiment(tmp_path, "training.epochs=10", "training.warmup_ratio=0.5"))
    monitor, chance = run.monitor, run.monitor.baselines["target"]
    assert monitor.first_judged_epoch == 6
    notices = []
    for epoch, loss in enumerate([1.0] * 7 + [0.99, 0.9, 1.0], 1):
        monitor.check_epoch(epoch, {"target": loss * chance})
        notices.append(len(monitor.notices))
    assert notices == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]


def test_the_choice_of_machine_is_measured_once_and_leaves_everything_as_it_was(
    tmp_path: Path, quiet_machine: None
) -> None:
    torch.manual_seed(3)
    network, memory, calls = nn.Linear(8, 8), tmp_path / "compute_choices", []
    weights, state = network.weight.clone(), torch.get_rng_state()

    def step(trial: nn.Module) -> None:
        calls.append(trial)
        nn.functional.dropout(trial(torch.randn(4, 8)), 0.5).sum().backward()

    first = autotune(TrainingOptions(), network, step, memory)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(weights, network.weight)
    assert network.weight.grad is None
    assert all(trial is not network for trial in calls)
    count = len(calls)
    assert autotune(TrainingOptions(), network, step, memory) == first
    assert len(calls) == count
    assert autotune(TrainingOptions(precision="fp32", num_threads=2), network, step, memory) == ComputeConfig(
        "fp32", 2, "set by the recipe"
    )
    autotune(TrainingOptions(), nn.Linear(8, 9), lambda trial: None, memory)
    assert len(list(memory.iterdir())) == 2


def test_the_machine_puts_threads_back() -> None:
    before = torch.get_num_threads()
    with ComputeConfig("bf16", 2).active():
        assert torch.get_num_threads() == 2
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert torch.get_num_threads() == before


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, TrainingState({"a": torch.ones(3)}, {"epoch": 1}))
    assert read_checkpoint(path).metadata == {"epoch": 1}
    whole = path.read_bytes()
    for damaged in (whole[:-5], b"", whole + b"0", *(flipped(whole, place) for place in range(len(whole)))):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"is damaged.*delete it to train from the start"):
            read_checkpoint(path)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_sample_weights_and_gaps_weigh_the_loss(tmp_path: Path) -> None:
    one = experiment(tmp_path)
    network = make_network(one.recipe, one.preparation).eval()
    loss = Loss(one.preparation.tasks, {"target": 1.0}, "fixed")
    prepared = one.splits["train"].table
    single = [
        loss(network(b), b).total.item() for b in (one.preparation.batch(prepared, np.array([i])) for i in (0, 1, 2))
    ]
    from dataclasses import replace

    batch = one.preparation.batch(prepared, np.array([0, 1, 2]))
    weighted = replace(batch, weight=torch.tensor([1.0, 3.0, 0.0]))
    assert loss(network(weighted), weighted).total.item() == pytest.approx((single[0] + 3 * single[1]) / 4, rel=1e-5)
    target = replace(batch.targets["target"], present=torch.tensor([True, False, True]))
    gap = replace(batch, targets={"target": target})
    assert loss(network(gap), gap).total.item() == pytest.approx((single[0] + single[2]) / 2, rel=1e-5)


def test_freezing_everything_is_seen(tmp_path: Path) -> None:
    one = experiment(tmp_path, "training.param_groups.fusion.freeze=true")
    network = make_network(one.recipe, one.preparation)
    freeze_parts(network, one.recipe.training)
    trained = {
        id(p) for g in make_optimizer(network, nn.Module(), one.recipe.training).param_groups for p in g["params"]
    }
    assert trained.isdisjoint(id(p) for p in network.fusion.parameters())
    assert trained
