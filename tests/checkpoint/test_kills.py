"""Commands killed at random moments; `python -m benchmarks.kills` kills more of them, and more often."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes to kill are forked")
def test_nothing_is_lost_and_the_rerun_is_the_same_to_the_bit(tmp_path: Path) -> None:
    only = ["fit", "fit --overwrite", "index --overwrite"]
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "6", "--records", str(tmp_path), "--only", *only]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    left = json.loads((tmp_path / "kills.json").read_text())["facts"]["what the kill left"]
    assert {name: sum(found.values()) for name, found in left.items()} == dict.fromkeys(only, 2)
