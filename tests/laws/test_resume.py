"""Law 7: a run that is killed and resumed equals the one that was not, to the bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from laws.objectives import OBJECTIVES, inputs_of
from laws.samples import experiment, sample_table
from polymodal.checkpoint.training_state_file import read_checkpoint
from polymodal.core.progress import Progress, ProgressTask
from polymodal.experiments.experiment import Experiment
from polymodal.experiments.train import train_model
from polymodal.model.model import Model

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

STEPS_PER_EPOCH = 3
TRAINING = {
    "epochs": 4,
    "batch_size": 8,
    "save_steps": 2,
    "logging_steps": 1,
    "modality_dropout": 0.2,
    "average_top_k": 2,
    "loss_balancing": "uncertainty",
}


class Killed(Exception):
    pass


class KilledAt(Progress):
    """Stops the run after `step` steps."""

    def __init__(self, step: int) -> None:
        super().__init__(False)
        self.step = step

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[ProgressTask]:
        advance = ProgressTask()
        advance.status = self.watch  # type: ignore[method-assign]
        yield advance

    def watch(self, done: int, planned: int, text: str) -> None:
        if done == self.step:
            self.kill()

    def kill(self) -> None:
        raise Killed


class KilledForReal(KilledAt):
    def kill(self) -> None:
        import os

        os.kill(os.getpid(), signal.SIGKILL)


def the_experiment(folder: Path) -> Experiment:
    columns, recipe = sample_table(
        ["text", "image", "number"], ["classification", "regression", "text_generation", "image_generation"]
    )
    return experiment({"train": columns, "validation": columns}, folder, **recipe, fusion="mixture", training=TRAINING)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return the_experiment(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def uninterrupted(prepared: Experiment) -> Model:
    return train_model(prepared, progress=Progress(False))


def assert_same_run(model: Model, other: Model) -> None:
    state, wanted = model.network.state_dict(), other.network.state_dict()
    assert [name for name in wanted if not torch.equal(state[name], wanted[name])] == []
    for key in ("history", "steps", "averaged_epochs", "notices"):
        assert getattr(model.run, key) == getattr(other.run, key), key


@pytest.mark.parametrize("step", range(1, 4 * STEPS_PER_EPOCH + 1))
def test_after_any_step(step: int, prepared: Experiment, uninterrupted: Model, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train_model(prepared, folder=tmp_path, progress=KilledAt(step))
    torch.manual_seed(step)
    resumed = train_model(prepared, folder=tmp_path, resume=True, progress=Progress(False))
    assert_same_run(resumed, uninterrupted)


def test_after_two_kills(prepared: Experiment, uninterrupted: Model, tmp_path: Path) -> None:
    for step in (4, 9):
        with pytest.raises(Killed):
            train_model(prepared, folder=tmp_path, resume=True, progress=KilledAt(step))
    assert_same_run(train_model(prepared, folder=tmp_path, resume=True, progress=Progress(False)), uninterrupted)


@pytest.mark.parametrize(("balance", "method"), [("gradnorm", "ogm_ge"), ("pcgrad", "gradient_blending")])
def test_balancing_resumes_as_it_was(balance: str, method: str, tmp_path: Path) -> None:
    columns, recipe = sample_table(["text", "number"], ["classification", "regression"])
    training = TRAINING | {"loss_balancing": balance, "modality_balancing": {"method": method, "interval_epochs": 1}}
    parts = {"train": columns, "validation": columns}
    one = experiment(parts, tmp_path / "prepared", **recipe, fusion="hybrid", training=training)
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(Killed):
        train_model(one, folder=folder, progress=KilledAt(7))
    resumed = train_model(one, folder=folder, resume=True, progress=Progress(False))
    assert_same_run(resumed, train_model(one, progress=Progress(False)))


def test_resumes_from_the_checkpoint(prepared: Experiment, tmp_path: Path) -> None:
    """Resuming is not training from the start: the steps before the checkpoint are not done again."""
    with pytest.raises(Killed):
        train_model(prepared, folder=tmp_path, progress=KilledAt(8))
    metadata = read_checkpoint(tmp_path / "checkpoint.safetensors").metadata
    assert metadata["history"]["steps"] >= 6
    with pytest.raises(Killed):
        train_model(prepared, folder=tmp_path, resume=True, progress=KilledAt(9))
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines() if '"loss"' in line]
    assert steps[0] == 1
    assert steps.count(1) == 1


@pytest.fixture(scope="module")
def with_objectives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Model]:
    """All objectives in one run, and what it comes to."""
    columns, inputs = inputs_of(rows=16)
    parts, folder = {"train": columns, "validation": columns}, tmp_path_factory.mktemp("objectives")
    training = {**TRAINING, "epochs": 3, "save_steps": 1}
    made = experiment(parts, folder, inputs=inputs, objectives=OBJECTIVES, training=training)
    return made, train_model(made, progress=Progress(False))


@pytest.mark.parametrize("step", [2, 5])
def test_with_objectives(step: int, with_objectives: tuple[Experiment, Model], tmp_path: Path) -> None:
    """Teachers, memory banks and running means resume too, within an epoch and after one."""
    made, whole = with_objectives
    with pytest.raises(Killed):
        train_model(made, folder=tmp_path, progress=KilledAt(step))
    torch.manual_seed(step)
    assert_same_run(train_model(made, folder=tmp_path, resume=True, progress=Progress(False)), whole)


SCRIPT = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from laws.test_resume import KilledForReal, the_experiment
from polymodal.experiments.train import train_model
train_model(the_experiment(Path({folder!r}) / "prepared"), folder=Path({folder!r}) / "run", progress=KilledForReal(8))
"""


def test_after_a_real_kill(prepared: Experiment, uninterrupted: Model, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    tests = str(Path(__file__).parents[1])
    script = SCRIPT.format(tests=tests, folder=str(tmp_path))
    ended: Any = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    resumed = train_model(prepared, folder=tmp_path / "run", resume=True, progress=Progress(False))
    assert_same_run(resumed, uninterrupted)
