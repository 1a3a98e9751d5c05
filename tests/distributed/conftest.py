"""Launches of several processes compute all cases; the tests read their results."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distributed.launch import run

#: By case: what each process measured.
Results = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of a launch of this many processes. The workers of a test run share them."""
    fcntl = pytest.importorskip("fcntl")
    size, base = request.param, tmp_path_factory.getbasetemp()
    folder: Path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ranks"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            ended = run(["-m", "distributed.ranks", str(folder)])
            assert ended.returncode == 0, ended.stderr[-4000:]
            (folder / "done").touch()
    every = [json.loads((folder / f"{size}-{rank}.json").read_text()) for rank in range(size)]
    return {name: [own.get(name, {"failed": "not reached"}) for own in every] for name in every[0]}
