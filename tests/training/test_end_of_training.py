"""When training ends, and that the weights are those of an epoch with a low learning rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polymodal import Model, fit
from polymodal.training.records import Epoch
from polymodal.training.schedule import Schedule
from polymodal.training.trainer import Trainer
from polymodal.training.validation import SOLVED_EPOCHS, SOLVED_ROWS

SETTINGS = {
    "hidden_size": 16,
    "training.epochs": 40,
    "training.learning_rate": 0.02,
    "training.num_threads": 1,
    "training.precision": "fp32",
    "evaluation.bootstrap_samples": 0,
}


def two_heaps(rows: int, seed: int, *, wrong: int = 0, noise: bool = False) -> dict[str, list[Any]]:
    """Two classes far apart; the labels of the first `wrong` rows are swapped."""
    draw = np.random.default_rng(seed)
    label = draw.integers(2, size=rows)
    columns = {"x": (label * 4 + draw.uniform(0, 1, rows)).tolist()}
    if noise:
        columns["noise"] = draw.normal(size=rows).tolist()
    label[:wrong] = 1 - label[:wrong]
    return {**columns, "kind": [["low", "high"][one] for one in label]}


def trained(rows: int, wrong: int = 0) -> Model:
    settings = SETTINGS | {"evaluation.unimodal_scores": "none"}
    return fit(two_heaps(200, 0), "kind", validation=two_heaps(rows, 1, wrong=wrong), settings=settings)


@pytest.mark.parametrize(("rows", "wrong"), [(SOLVED_ROWS, 0), (SOLVED_ROWS - 1, 0), (SOLVED_ROWS, 1)])
def test_training_ends_when_many_validation_rows_have_no_error(rows: int, wrong: int) -> None:
    """One row less, or one error, and the loss goes on choosing among the epochs."""
    epochs = trained(rows, wrong).run.history
    perfect = [epoch.validation["kind.accuracy"] == 1 for epoch in epochs]
    if rows == SOLVED_ROWS and not wrong:
        assert len(epochs) < 40
        assert all(perfect[-SOLVED_EPOCHS:])
        assert not any(all(perfect[end - SOLVED_EPOCHS : end]) for end in range(SOLVED_EPOCHS, len(epochs)))
    else:
        assert len(epochs) >= 20


def test_a_model_of_one_input_ends_early_and_is_scored() -> None:
    columns = two_heaps(300, 2, noise=True)
    settings = SETTINGS | {"inputs.x": "number", "inputs.noise": "number"}
    model = fit(columns, "kind", settings=settings, test=two_heaps(300, 3, noise=True))
    alone = model.metrics["test"]["kind"]["accuracy"]["unimodal"]
    assert alone["x"] > 0.97
    assert alone["noise"] < 0.65


EARLY = {**SETTINGS, "training.early_stopping_patience": 3, "training.logging_steps": 1, "training.save_steps": 1}


def noisy(rows: int, seed: int) -> dict[str, list[Any]]:
    """A class that follows one of eight numbers, with a third of the labels wrong: soon learned by heart."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, 8))
    label = (x[:, 0] > 0) ^ (draw.random(rows) < 0.3)
    return {**{f"x{i}": x[:, i].tolist() for i in range(8)}, "kind": ["high" if one else "low" for one in label]}


def early(folder: Path, **keywords: Any) -> Model:
    return fit(noisy(100, 0), "kind", validation=noisy(100, 1), settings=EARLY, out=folder, **keywords)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A run that is stopped early, and its directory."""
    folder = tmp_path_factory.mktemp("stopped") / "model"
    return early(folder), folder


def test_an_early_stop_anneals_the_best_epoch(stopped: tuple[Model, Path]) -> None:
    model, folder = stopped
    history, source = model.run.history, model.run.annealed_from
    stop = len(history) - 4  # a tenth of 40 epochs follows
    assert source == stop - 3
    assert [one.epoch for one in history if one.best][-1] > stop
    assert min(model.run.averaged_epochs, default=stop + 1) > stop
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["rate"] for line in lines if line["event"] == "step"}
    annealed = [rate for step, rate in rates.items() if step > history[stop - 1].step]
    assert annealed == sorted(annealed, reverse=True)
    assert annealed[0] == pytest.approx(rates[history[source - 1].step] * (1 - 1 / len(annealed)))
    assert annealed[-1] == 0
    assert f"annealed from epoch {source}" in (folder / "report.html").read_text()


def test_a_run_that_is_killed_while_it_anneals_ends_as_it_would_have(
    stopped: tuple[Model, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = stopped
    last = model.run.history[-5].step
    ordinary = Trainer._step
    for step in (last, last + 3):

        def until(self: Trainer, rows: np.ndarray, step: int = step) -> None:
            if self.history.steps == step:
                raise KeyboardInterrupt
            ordinary(self, rows)

        with monkeypatch.context() as here:
            here.setattr(Trainer, "_step", until)
            with pytest.raises(KeyboardInterrupt):
                early(tmp_path / f"{step}")
        resumed = early(tmp_path / f"{step}", resume=True)
        for name, tensor in model.network.state_dict().items():
            assert torch.equal(resumed.network.state_dict()[name], tensor), name
        assert resumed.run.history == model.run.history


def test_only_epochs_from_the_end_of_the_schedule_are_kept() -> None:
    settings = {**SETTINGS, "training.early_stopping_patience": 40}
    model = fit(noisy(100, 0), "kind", validation=noisy(100, 1), settings=settings)
    history = model.run.history
    assert len(history) == 40
    chosen = [one.epoch for one in history if one.best][-1]
    assert min([chosen, *model.run.averaged_epochs]) > 30
    scores = [one.validation["kind.accuracy"] for one in history]
    assert max(scores[:30]) > scores[chosen - 1], "an earlier epoch was better by luck"


def test_there_is_no_annealing_without_time() -> None:
    schedule = Schedule(torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 40, 10, 0.05, 9)
    epochs = [Epoch(number, 10 * number, {}, {}, {}, best=True) for number in (4, 9)]
    assert not schedule.anneal(*epochs, max_epochs=0.9)
    assert schedule.anneal(*epochs, max_epochs=2.5)
    assert schedule.total_steps == 110
    assert not schedule.is_over(10)
    assert schedule.is_over(11)
