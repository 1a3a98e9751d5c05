"""The examples for clusters: their commands run, and their resources have the form that Kubernetes wants."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import polymodal
from command_line import run_command

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
JOB = yaml.safe_load((DEPLOY / "kubernetes" / "predict-job.yaml").read_text())
RAY = yaml.safe_load((DEPLOY / "kubernetes" / "predict-rayjob.yaml").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    rows = {"length": [0.37 * n for n in range(20)], "kind": ["short"] * 10 + ["long"] * 10}
    settings = ["training.epochs=1", "hidden_size=8", "evaluation.bootstrap_samples=0"]
    polymodal.fit(rows, "kind", settings=settings, out=folder / "model")
    (folder / "new.csv").write_text("length\n1\n18\n")
    return folder


def check_command(words: list[str], place: Path, tmp_path: Path) -> None:
    """Run the command with a small model and table in place of its own."""
    assert words[0] == "predict"
    words = ["predict", str(place / "model"), str(place / "new.csv"), *words[3:]]
    words[words.index("--out") + 1] = str(tmp_path / "out")
    done = run_command(*words)
    assert done.returncode == 0, done.stderr
    assert "1 shard of 1 computed" in done.stdout


def test_the_job_of_slurm(place: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "polymodal"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    program.chmod(0o755)
    variables = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "64", "MODEL": "m", "DATA": "d", "OUT": "o"}
    environment = {**os.environ, **variables, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    script = DEPLOY / "slurm" / "predict.sbatch"
    shown = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=True)
    assert "#SBATCH --array=0-63" in script.read_text()
    check_command(shown.stdout.splitlines(), place, tmp_path)


def test_the_job_of_kubernetes(place: Path, tmp_path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    validate.validate(JOB, validate.latest_version(), strict=True)
    (container,) = JOB["spec"]["template"]["spec"]["containers"]
    words = [word.replace("$(JOB_COMPLETION_INDEX)", "0") for word in [*container["command"], *container["args"]]]
    assert f"0/{JOB['spec']['completions']}" in words
    assert words[0] == "polymodal"
    check_command(words[1:], place, tmp_path)


def test_the_pods_of_the_ray_cluster() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    cluster = RAY["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
        validate.validate(pod, validate.latest_version(), strict=True)


def test_the_command_of_the_ray_cluster(place: Path, tmp_path: Path) -> None:
    """Its engine runs in tests/engines/test_ray.py; here it is replaced by the one that needs no cluster."""
    program, *words = shlex.split(RAY["spec"]["entrypoint"])
    assert program == "polymodal"
    at = words.index("--engine") + 1
    assert words[at] == "ray"
    check_command([*words[:at], "local", *words[at + 1 :]], place, tmp_path)


@pytest.mark.parametrize("name", ["Dockerfile", "serve.Dockerfile"])
def test_an_image_installs_what_exists(name: str) -> None:
    text = (DEPLOY / "docker" / name).read_text()
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)
    (constraints,) = re.findall(r"-c (\S+)", text)
    assert (ROOT / constraints).is_file()
    assert (ROOT / re.findall(r"-f (\S+)", text)[0]).samefile(DEPLOY / "docker" / name)
