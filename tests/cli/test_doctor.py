"""The command `doctor`: what is installed, and whether it works."""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from pathlib import Path

import pytest

import polymodal
from command_line import run_command
from polymodal.workflows.installation import INTERNAL_EXTRAS, missing_packages

ROOT = Path(polymodal.__file__).parents[2]


def test_everything_works_here() -> None:
    done = run_command("doctor", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"]) == (0, [])
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert "trained and predicted" in found["machine"]["small run"]


def test_every_extra_is_listed_and_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(missing_packages()) == set(project["optional-dependencies"]) - set(INTERNAL_EXTRAS)
    installed = importlib.metadata.version

    def without_optuna(package: str) -> str:
        if package == "optuna":
            raise importlib.metadata.PackageNotFoundError
        return installed(package)

    monkeypatch.setattr(importlib.metadata, "version", without_optuna)
    found = missing_packages()
    assert found["tune"] == ["optuna"]
    assert "optuna" in found["postgresql"]  # which contains the extra `tune`


def test_a_cache_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_command("doctor", "--json", env={"POLYMODAL_CACHE": str(tmp_path / "file")})
    assert done.returncode == 1
    problem, *_ = (one for one in json.loads(done.stdout)["problems"] if "the cache" in one)
    assert "POLYMODAL_CACHE" in problem
