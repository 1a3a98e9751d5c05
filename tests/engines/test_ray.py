"""Ray, really started on two logical processors: the same files as in a loop, also if an actor is killed."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest

import polymodal
from polymodal.applications.batch_prediction.predict_shards import predict_shards
from polymodal.applications.batch_preparation.prepare import prepare
from polymodal.core.errors import PolymodalError
from polymodal.engines import ray_cluster
from polymodal.engines.ray_cluster import RayEngine
from polymodal.engines.shards import Shard, ShardRetryWarning, WorkSpec
from polymodal.tuning.results import TuningResult

SHARDS = [Shard(number, 10 * number, 10 * number + 10, f"{number}.txt") for number in range(6)]


def test_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D7, D10 and D11, in one test: Ray takes long to start."""
    pytest.importorskip("ray", reason="ray is not installed")
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.delenv(ray_cluster.ADDRESS, raising=False)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    ray = ray_cluster.require_ray()
    with ray_cluster._cluster(ray, 2, 1.0):
        started = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        every_shard_once_after_a_kill(tmp_path / "numbers")
        errors_are_told(tmp_path)
        predictions_are_those_of_a_loop(tmp_path, monkeypatch)
        prepared_rows_are_those_of_a_loop(tmp_path, monkeypatch)
        a_search_has_the_trials_of_a_loop(tmp_path, monkeypatch)
    assert started
    deadline = time.monotonic() + 60
    while alive(started) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert alive(started) == []


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def every_shard_once_after_a_kill(folder: Path) -> None:
    folder.mkdir()
    done: list[int] = []
    numbers = {"kind": "numbers", "folder": str(folder), "killed": {"1": 1, "4": 1}}
    with warnings.catch_warnings(record=True) as caught:
        RayEngine(2).run(WorkSpec("shard_work", numbers), SHARDS, lambda shard: done.append(shard.number))
    told = sorted(str(one.message) for one in caught if one.category is ShardRetryWarning)
    assert [text.partition(":")[0] for text in told] == ["rows 10 to 19", "rows 40 to 49"]
    assert all("ActorDiedError" in text and text.endswith("; attempt 2 of 3 begins") for text in told)
    assert sorted(done) == list(range(6))
    found = [int(line) for shard in SHARDS for line in (folder / shard.name).read_text().splitlines()]
    assert found == list(range(60))
    assert {file.name for file in folder.glob("killed-*")} == {"killed-1-0", "killed-4-0"}


def errors_are_told(folder: Path) -> None:
    numbers: dict[str, Any] = {"kind": "numbers", "folder": str(folder), "killed": {}}
    with pytest.raises(PolymodalError, match="row 10: a cell is wrong"):
        RayEngine(1).run(WorkSpec("shard_work", {**numbers, "wrong": 1}), SHARDS, lambda shard: None)
    with pytest.raises(PolymodalError, match="works on rows 20 to 29 was killed 3 times"):
        RayEngine(1).run(WorkSpec("shard_work", {**numbers, "killed": {"2": 9}}), SHARDS[2:3], lambda shard: None)


def predictions_are_those_of_a_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"length": [0.37 * n for n in range(40)], "kind": ["short" if n < 20 else "long" for n in range(40)]}
    settings = ["training.epochs=1", "hidden_size=8", "evaluation.bootstrap_samples=0", "training.num_threads=1"]
    polymodal.fit(rows, "kind", settings=settings, out=folder / "model")
    lines = [f"{n}" if n % 7 else "seven" for n in range(50)]
    (folder / "new.csv").write_text("length\n" + "\n".join(lines) + "\n")
    options: dict[str, Any] = {"shard_rows": 10, "probabilities": True}
    predict_shards(folder / "model", folder / "new.csv", folder / "loop", **options)
    monkeypatch.setattr("polymodal.applications.batch_prediction.predict_shards.WorkSpec", KilledSpec)
    done = predict_shards(folder / "model", folder / "new.csv", folder / "ray", engine="ray", workers=2, **options)
    assert (done.computed, done.complete, done.rows, done.cell_errors) == (5, True, 50, 8)
    assert (folder / "killed-3-0").exists()
    loop, ray = ({file.name: file.read_bytes() for file in (folder / name).iterdir()} for name in ("loop", "ray"))
    assert loop == ray


def prepared_rows_are_those_of_a_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{n if n % 7 else 'seven'},{'short' if n < 20 else 'long'}" for n in range(50)]
    (folder / "train.csv").write_text("length,kind\n" + "\n".join(lines) + "\n")
    recipe = {"inputs": {"length": {"columns": ["length"], "modality": "number"}}, "training": {"num_threads": 1}}
    options: dict[str, Any] = {"shard_rows": 10, "recipe": recipe}
    prepare(folder / "train.csv", "kind", out=folder / "prepared loop", **options)
    (folder / "killed-3-0").unlink()
    monkeypatch.setattr("polymodal.applications.batch_preparation.prepare.WorkSpec", KilledPreparation)
    done = prepare(folder / "train.csv", "kind", out=folder / "prepared ray", engine="ray", workers=2, **options)
    assert (done.computed, done.complete, done.rows, done.cell_errors) == (5, True, 50, 8)
    assert (folder / "killed-3-0").exists()
    names = ("prepared loop", "prepared ray")
    loop, ray = ({file.name: file.read_bytes() for file in (folder / name).iterdir()} for name in names)
    assert loop == ray


def a_search_has_the_trials_of_a_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two actors, one of which is killed in the middle of a trial, against trials one after the other."""
    rows = {"length": [0.37 * n for n in range(40)], "kind": ["short" if n < 20 else "long" for n in range(40)]}
    space = {"outputs.kind.decoder": [{"name": "mlp", "dropout": share} for share in (0.0, 0.1, 0.2)]}
    settings = ["training.epochs=1", "hidden_size=8", "evaluation.bootstrap_samples=0"]
    given: dict[str, Any] = {"settings": settings, "space": space, "folds": 2, "trials": 3, "time_limit": None}
    loop = polymodal.tune(rows, "kind", **given, out=folder / "loop-search")
    monkeypatch.setattr("polymodal.tuning.worker.WorkSpec", KilledTrials)
    ray = polymodal.tune(rows, "kind", **given, jobs=2, engine="ray", out=folder / "ray-search")
    assert (folder / "killed-0").exists()
    assert predictions_of_trials(ray) == predictions_of_trials(loop)
    assert len(predictions_of_trials(ray)) == 3
    assert ray.best.score == loop.best.score
    (lost,) = ray.failed
    assert (lost.status, lost.overrides["outputs.kind.decoder"]["dropout"]) == ("unfinished", 0.1)


def predictions_of_trials(found: TuningResult) -> dict[str, bytes]:
    """The bytes of the out-of-fold predictions of the complete trials, by their settings."""
    return {
        str(entry.overrides): entry.candidate.distributions["kind"].tobytes()
        for entry in found.entries
        if entry.status == "complete"
    }


def KilledTrials(module: str, arguments: dict[str, Any]) -> WorkSpec:
    """The trials of a search, killed once in the middle of one."""
    killed = {"target": "kind", "dropout": 0.1, "times": 1, "notes": str(Path(arguments["folder"]).parent)}
    return WorkSpec("killed_trials", {**arguments, **killed})


def KilledSpec(module: str, arguments: dict[str, Any]) -> WorkSpec:
    """The work of predictions, killed once in the middle of a shard."""
    notes = str(Path(arguments["out"]).parent)
    return WorkSpec("shard_work", {**arguments, "kind": "predictions", "folder": notes, "killed": {"3": 1}})


def KilledPreparation(module: str, arguments: dict[str, Any]) -> WorkSpec:
    """The work of a preparation, killed once in the middle of a shard."""
    notes = str(Path(arguments["out"]).parent)
    return WorkSpec("shard_work", {**arguments, "kind": "preparation", "folder": notes, "killed": {"3": 1}})
