"""The script for a machine with an accelerator runs on the CPU in tiny sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.gpu.__main__ import main

ROOT = Path(__file__).parents[2]


def test_every_part_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["is_dry_run"]
    compared = [one for one in found["correctness"] if "relative_difference" in one]
    assert len(compared) >= 4
    assert {one["relative_difference"] for one in compared} == {0.0}
    for part in ("training", "own_training", "generation"):
        assert "left_out" not in found[part]
        assert all(value is None or value for value in found[part].values()), part


def test_without_an_accelerator_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--device", "cpu", "--out", str(tmp_path / "gpu.json")])
    assert "there is no accelerator" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()
