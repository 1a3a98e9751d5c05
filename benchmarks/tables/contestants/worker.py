"""Runs one contestant on one fold: `python worker.py PROGRAM JOB ANSWER`.

PROGRAM is a module of this folder with `run(job)`, such as `scripts.trees`. It is imported before the clock of the work
starts. This file does not import Polymodal, so that it runs in the environments of other libraries.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def main(program: str, job_file: str, answer_file: str) -> None:
    """Write the predictions, the processor seconds and the wall seconds of the work as JSON."""
    module = importlib.import_module(program)
    job = SimpleNamespace(**json.loads(Path(job_file).read_text("utf-8")))
    cpu, wall = _cpu(), time.perf_counter()
    answer = module.run(job)
    seconds = {"work_cpu_seconds": _cpu() - cpu, "work_seconds": time.perf_counter() - wall}
    seconds["memory_mib"] = _peak_memory()
    Path(answer_file).write_text(json.dumps({**_plain(answer), **seconds}), "utf-8")


def _cpu() -> float:
    """Processor seconds of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak_memory() -> float:
    """Peak resident memory in MiB of this process, or of the largest of its ended children.

    The system's usage counter of this process begins with the memory of its parent, so /proc is read where it exists.
    """
    usage = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        usage[0] = int(line.split()[1]) / 1024
    return max(usage)


def _plain(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, tuple):
        return {"predicted": [one if isinstance(one, str) else float(one) for one in answer]}
    classes, probabilities = [str(one) for one in answer[0]], answer[1]
    best = [classes[index] for index in probabilities.argmax(1)]
    return {"predicted": best, "classes": classes, "probabilities": probabilities.astype(float).tolist()}


if __name__ == "__main__":
    main(*sys.argv[1:])
