"""What `resume` does: a complete run is read back, a foreign checkpoint is refused, the log has no doubles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    with pytest.raises(ArtifactError, match="another train table"):  # the same targets, one other input cell
        fit(other_inputs(data), "target", settings=SETTINGS, out=tmp_path / "run", resume=True)


def other_inputs(data: dict[str, Any]) -> dict[str, Any]:
    """The same table with one other input cell."""
    first, *others = data["a0"]
    return {**data, "a0": [float(first) + 1, *map(float, others)]}


def test_a_complete_run_of_other_data_is_refused_and_named(tmp_path: Path) -> None:
    """Each of the tables, also as the second of several; the model of the same data is returned."""
    tables = {name: planted.make_exclusive_or(40, seed) for seed, name in enumerate(("train", "more", "valid", "test"))}
    unlabeled = {name: cells for name, cells in planted.make_exclusive_or(40, 9).items() if name != "target"}
    settings = [*SETTINGS, "training.pseudo_labels.rounds=1"]

    def run(**changed: Any) -> object:
        now = {**tables, "unlabeled": unlabeled, **changed}
        return fit(
            {"train": now["train"], "more": now["more"]},
            recipe={"outputs": {"target": "classification"}},
            settings=settings,
            validation=now["valid"],
            test=now["test"],
            unlabeled=now["unlabeled"],
            out=tmp_path / "run",
            resume=True,
        )

    run()
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    run()
    for name, shown in (
        ("train", "train table"),
        ("more", "train table"),
        ("unlabeled", "train table"),
        ("valid", "validation table"),
        ("test", "test table"),
    ):
        with pytest.raises(ArtifactError, match=f"holds a complete run of other .* another {shown};"):
            run(**{name: other_inputs(unlabeled if name == "unlabeled" else tables[name])})
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before


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
