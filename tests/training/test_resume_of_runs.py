"""What `resume` does: a complete run is read back, a foreign checkpoint is refused, the log has no doubles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from polymodal.core.errors import ArtifactError
from polymodal.datasets import planted
from polymodal.training.trainer import Trainer
from polymodal.workflows.fit import fit

SETTINGS = [
    "hidden_size=16",
    "training.epochs=3",
    "training.batch_size=32",
    "training.precision=fp32",
    "training.num_threads=1",
]
SETTINGS += [
    "training.save_steps=2",
    "training.logging_steps=1",
    "evaluation.unimodal_scores=none",
    "evaluation.bootstrap_samples=0",
]


class Killed(Exception):
    pass


def killed_at(step: int, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Start a run in `folder` and stop it after `step` steps."""
    ordinary = Trainer._step

    def until(self: Trainer, batch: object) -> None:
        if self.history.steps == step:
            raise Killed
        ordinary(self, batch)  # type: ignore[arg-type]

    with patch.context() as here:
        here.setattr(Trainer, "_step", until)
        with pytest.raises(Killed):
            fit(planted.make_exclusive_or(200, 0), "target", settings=SETTINGS, out=folder)


def test_a_complete_run_is_read_back_and_not_trained_again(tmp_path: Path) -> None:
    data, out = planted.make_exclusive_or(200, 0), tmp_path / "run"
    first = fit(data, "target", settings=SETTINGS, out=out, resume=True)
    before = (out / "model.safetensors").stat().st_mtime_ns
    again = fit(data, "target", settings=SETTINGS, out=out, resume=True)
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])


def test_a_checkpoint_of_another_recipe_or_other_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(5, tmp_path / "run", monkeypatch)
    data = planted.make_exclusive_or(200, 0)
    with pytest.raises(ArtifactError, match="another recipe"):
        fit(data, "target", settings=[*SETTINGS, "training.gradient_clip=0.5"], out=tmp_path / "run", resume=True)
    with pytest.raises(ArtifactError, match="other training rows"):
        fit(planted.make_exclusive_or(200, 1), "target", settings=SETTINGS, out=tmp_path / "run", resume=True)


def test_the_log_of_a_resumed_run_has_every_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_at(9, tmp_path / "killed", monkeypatch)
    data = planted.make_exclusive_or(200, 0)
    fit(data, "target", settings=SETTINGS, out=tmp_path / "killed", resume=True)
    fit(data, "target", settings=SETTINGS, out=tmp_path / "whole")
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("killed", "whole")]
    assert logs[0] == logs[1]
    steps = [line["step"] for line in map(json.loads, logs[0].splitlines()) if line["event"] == "step"]
    assert steps == sorted(set(steps))
    assert not (tmp_path / "killed" / "checkpoint.safetensors").exists()


def test_a_complete_run_of_another_recipe_is_not_taken_for_this_one(tmp_path: Path) -> None:
    data = planted.make_exclusive_or(200, 0)
    fit(data, "target", settings=SETTINGS, out=tmp_path / "run")
    with pytest.raises(ArtifactError, match="another recipe"):
        fit(data, "target", settings=[*SETTINGS, "training.gradient_clip=0.5"], out=tmp_path / "run", resume=True)
