"""The directory of a run: a failed or second run never harms the model that is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import polymodal
from polymodal.checkpoint.directory_kinds import WRITING
from polymodal.core.errors import OutputError, RecipeError, TrainingError
from polymodal.datasets import planted

SETTINGS = ["training.epochs=1", "hidden_size=8", "training.precision=fp32", "training.num_threads=1"]
SETTINGS += ["evaluation.bootstrap_samples=0", "evaluation.unimodal_scores=none"]
HELPER = """
import sys, torch
torch.set_num_threads(1)
import polymodal
from polymodal.datasets import planted
from polymodal.training.trainer import Trainer
ordinary = Trainer._step
def step(self, batch):
    if self.history.steps == 0:
        print("training", flush=True)
        sys.stdin.readline()
    ordinary(self, batch)
Trainer._step = step
polymodal.fit(planted.make_exclusive_or(64, 0), "target", settings=sys.argv[2:], out=sys.argv[1])
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fit(folder: Path, *settings: str, **options: Any) -> polymodal.Model:
    data = planted.make_exclusive_or(64, 0)
    return polymodal.fit(data, "target", settings=[*SETTINGS, *settings], out=folder, **options)


def test_a_failed_overwrite_leaves_the_old_model(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(TrainingError):
        fit(tmp_path / "run", "training.learning_rate=1e30", overwrite=True)
    assert contents(tmp_path) == before
    with pytest.raises(RecipeError):
        fit(tmp_path / "run", "fusion=none_such", overwrite=True)
    assert contents(tmp_path) == before
    fit(tmp_path / "run", "seed=1", overwrite=True)
    assert polymodal.load(tmp_path / "run").recipe.seed == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["run"]


def test_a_failed_first_run_can_be_started_again(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        fit(tmp_path / "run", "training.learning_rate=1e30")
    assert not (tmp_path / "run").exists()
    fit(tmp_path / "run")


def test_resume_and_overwrite_contradict(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="set one of them"):
        fit(tmp_path / "run", resume=True, overwrite=True)
    with pytest.raises(OutputError, match="set one of them"):
        polymodal.tune(planted.make_exclusive_or(64, 0), "target", out=tmp_path / "run", resume=True, overwrite=True)


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
def test_of_two_runs_in_one_directory_one_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELPER, str(tmp_path / "run"), *SETTINGS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(
                OutputError, match=rf"{tmp_path}/run (is being written by process {process.pid}|is not)"
            ):
                fit(tmp_path / "run", **options)
        process.stdin.write("\n")
    assert process.returncode == 0
    alone = fit(tmp_path / "alone")
    assert contents(tmp_path / "run")["model.safetensors"] == contents(tmp_path / "alone")["model.safetensors"]
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == len(
        (tmp_path / "alone" / "log.jsonl").read_text().splitlines()
    )
    assert alone.metrics == polymodal.load(tmp_path / "run").metrics
    assert not (tmp_path / "run" / WRITING).exists()


def test_a_model_saved_over_another_leaves_nothing_of_it(tmp_path: Path) -> None:
    words = {"note": ["good one", "bad one"] * 20, "kind": ["a", "b"] * 20}
    recipe = {"inputs": {"note": {"modality": "text", "encoder": "embedding_bag"}}}
    with_tokenizer = polymodal.fit(words, "kind", recipe=recipe, settings=SETTINGS)
    without = fit(tmp_path / "other")
    with_tokenizer.save(tmp_path / "model")
    assert any(name.startswith("preparation/") for name in contents(tmp_path / "model"))
    with pytest.raises(OutputError, match="set resume or overwrite"):
        without.save(tmp_path / "model")
    without.save(tmp_path / "model", overwrite=True)
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert not any(name.startswith("preparation/") for name in [*manifest["sha256"], *contents(tmp_path / "model")])
