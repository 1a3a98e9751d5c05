"""Runs a contestant on one fold in a fresh process, and measures the process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import polymodal
from benchmarks.record import load_average
from benchmarks.tables.assets import assets_folder
from benchmarks.tables.cells import Cell
from benchmarks.tables.dataset import Columns, Dataset, take
from benchmarks.tables.entrants import Contestant
from benchmarks.tables.scores import calibration_bins, score
from benchmarks.tables.splits import Fold
from polymodal.core.paths import CACHE_VARIABLE, cache_folder

WORKER = Path(__file__).parent / "contestants" / "worker.py"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def run_cell(
    contestant: Contestant, dataset: Dataset, columns: Columns, fold: Fold, folds: int, *, minutes: float, threads: int
) -> Cell:
    """Train on the training rows, predict the test rows, whose target the contestant does not get, and score.

    minutes: wall-clock limit; a contestant that exceeds it has no score
    """
    facts: dict[str, Any] = {
        "dataset": dataset.name,
        "contestant": contestant.name,
        "seed": fold.seed,
        "fold": fold.number,
        "train_rows": len(fold.train),
        "test_rows": len(fold.test),
        "folds": folds,
        "load": load_average(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "version": code_version(),
        "settings": list(contestant.settings),
    }
    types = dataset.input_types(columns)
    inputs = {name: columns[name] for name in types}
    job = {
        "train": take(inputs | {dataset.target: columns[dataset.target]}, fold.train),
        "test": take(inputs, fold.test),
        "target": dataset.target,
        "types": types,
        "task": "regression" if dataset.is_regression else "classification",
        "root": str(assets_folder()),
        "seed": fold.seed,
        "settings": list(contestant.settings),
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        answer, measured = run_worker(contestant, folder, minutes=minutes, threads=threads)
    facts |= measured
    if answer is None:
        return Cell(**facts)
    truth = take(columns, fold.test)[dataset.target]
    calibration = None
    if "probabilities" in answer:
        calibration = calibration_bins(truth, answer["classes"], np.array(answer["probabilities"]))
    facts |= {name: answer[name] for name in ("work_cpu_seconds", "memory_mib")}
    scored = score(dataset.metric, truth, answer["predicted"])
    return Cell(**facts, score=scored, calibration_bins=calibration)


def run_worker(
    contestant: Contestant, folder: Path, *, minutes: float, threads: int
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The answer to `job.json` in the folder (None: failed), and the measurements of the process.

    Raises:
        MissingEnvironment: the environment of the contestant does not exist.
    """
    answer, output = folder / "answer.json", folder / "output.txt"
    command = [contestant.python(), str(WORKER), contestant.program, str(folder / "job.json"), str(answer)]
    variables = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        CACHE_VARIABLE: own_cache(folder),
    }
    variables |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    variables.pop("OMP_WAIT_POLICY", None)  # set by Polymodal for itself
    variables.pop("PYTHONPATH", None)
    if contestant.environment is None:
        variables["PYTHONPATH"] = str(Path(polymodal.__file__).parents[1])
    started = time.perf_counter()
    with output.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, cwd=folder, env=variables, start_new_session=True
        )
    expired = threading.Event()
    timer = threading.Timer(minutes * 60, lambda: (expired.set(), os.killpg(process.pid, signal.SIGKILL)))
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    measured: dict[str, Any] = {
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": time.perf_counter() - started,
    }
    if expired.is_set():
        measured["error"] = f"stopped after {minutes:g} minutes"
    elif process.returncode:
        measured["error"] = output.read_text(errors="replace")[-1500:]
    return (None if "error" in measured else json.loads(answer.read_text("utf-8"))), measured


@cache
def code_version() -> str:
    """The version of the package, and the commit of the checkout if there is one."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True) if shutil.which("git") else None
    commit = found.stdout.strip() if found and not found.returncode else ""
    return f"{polymodal.__version__} {commit}".strip()


def own_cache(folder: Path) -> str:
    """A cache of its own for each cell, so that no cell uses the features of another one. Converted weights are
    shared: they are converted once on a machine."""
    own, weights = folder / "cache", cache_folder() / "weights"
    own.mkdir()
    weights.mkdir(parents=True, exist_ok=True)
    (own / "weights").symlink_to(weights, target_is_directory=True)
    return str(own)
