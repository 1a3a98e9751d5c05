"""Processes that an executor starts: their output and their end, and that none is left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from polymodal.core.errors import PolymodalError
from polymodal.runtime.executors import LocalExecutor

MODULE = """
import os, signal, sys, time
way, worker = sys.argv[1], sys.argv[sys.argv.index("--worker") + 1]
print("worker", worker, "of", sys.argv[sys.argv.index("--parent") + 1], os.environ["OMP_NUM_THREADS"], flush=True)
if way == "killed" and worker == "0":
    os.kill(os.getpid(), signal.SIGKILL)
if way == "error" and worker == "1":
    sys.exit("PolymodalError: nothing to do")
if way == "error":
    print("pid", os.getpid(), flush=True)
    time.sleep(600)
"""


def executor(folder: Path, way: str, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> LocalExecutor:
    (folder / "some_module.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    return LocalExecutor("some_module", [way], logs=folder, on_line=lines.append)


def test_processes_say_what_they_print_to_the_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    executor(tmp_path, "well", lines, monkeypatch).run(2, lambda pid, reason: False)
    assert sorted(lines) == [f"worker {number} of {os.getpid()} 1" for number in range(2)]


def test_a_killed_process_is_replaced_where_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    reasons: list[str] = []

    def replace(pid: int, reason: str) -> bool:
        reasons.append(reason)
        return True

    executor(tmp_path, "killed", lines, monkeypatch).run(2, replace)
    assert len(reasons) == 1
    assert f"signal {signal.SIGKILL.value}" in reasons[0]
    assert f"worker 2 of {os.getpid()} 1" in lines
    with pytest.raises(PolymodalError, match="failed: no message"):
        executor(tmp_path, "killed", lines, monkeypatch).run(2, lambda pid, reason: False)


def test_an_error_of_one_ends_the_others_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    began = time.monotonic()
    with pytest.raises(PolymodalError, match="failed: PolymodalError: nothing to do") as told:
        executor(tmp_path, "error", lines, monkeypatch).run(2, lambda pid, reason: True)
    assert str(tmp_path / "worker-1.log") in str(told.value)
    assert time.monotonic() - began < 300
    for pid in [int(line.split()[1]) for line in lines if line.startswith("pid")]:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
