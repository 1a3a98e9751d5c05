"""What the comparisons with other libraries share: hand over the rows, run the program, and our own side."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.environments import python_of
from benchmarks.record import Record
from benchmarks.single_steps import decide_anew
from benchmarks.vqa import Vqa
from polymodal.inference.predictor import Predictor
from polymodal.runtime.random_state import isolated_random_state
from polymodal.training.trainer import Trainer

OTHER = Path(__file__).parent / "other"
TRIAL_ROWS = 1500


def write_rows(vqa: Vqa, file: Path) -> None:
    """The rows that Polymodal trains and tests on, as columns of image files, questions and answers."""
    parts = {}
    for name in ("train", "test"):
        table = vqa.tables[name].take(vqa.experiment.tables[name].rows)
        columns = {column: table[column].to_pylist() for column in ("image", "question", "answer")}
        columns["image"] = [str(vqa.root / path) for path in columns["image"]]
        parts[name] = columns
    file.write_text(json.dumps(parts))


def run_other(
    environment: str, program: str, rows: Path, *arguments: object, threads: int | None = None
) -> dict[str, Any]:
    """Run a program of `other/` in its library's environment; it prints its result as the last line.

    Raises:
        MissingEnvironment: the library's environment has not been made.
        RuntimeError: the program failed; the message has the end of what it printed.
    """
    command = [str(python_of(environment)), str(OTHER / program), str(rows), *map(str, arguments)]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    variables.pop("OMP_WAIT_POLICY", None)  # Polymodal sets it for itself
    if threads:
        variables["OMP_NUM_THREADS"] = str(threads)
    with TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=variables)
    if done.returncode:
        raise RuntimeError(f"{program} failed in the environment of {environment}:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def better_threads(environment: str, program: str, rows: Path, *arguments: object) -> int | None:
    """One thread, or None for the library's own choice: whichever is faster in a short run of the program."""
    speed = {
        threads: max(run_other(environment, program, rows, *arguments, threads=threads)["rows_per_second"])
        for threads in (None, 1)
    }
    return 1 if speed[1] > speed[None] else None


def run_ours(vqa: Vqa, epochs: int) -> dict[str, Any]:
    """Train as the demonstration does, for so many epochs, and answer the test rows."""
    splits, preparation, network = vqa.experiment.splits, vqa.experiment.preparation, vqa.network()
    schedule = vqa.recipe.training.model_copy(update={"epochs": epochs})
    recipe = vqa.recipe.model_copy(update={"training": schedule})
    with isolated_random_state(recipe.seed):
        trainer = Trainer(recipe, network, preparation, splits)
        decide_anew(trainer)
        history = trainer.run()
    test = splits["test"]
    decided = Predictor(network, preparation, trainer.compute).predict(test)["answer"]
    target = test.table.targets["answer"][0][test.rows]
    return {
        "rows_per_second": [history.rows / history.seconds],
        "seconds": history.seconds,
        "accuracy": float(np.mean(decided.values.argmax(1).numpy() == target)),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "machine": f"{trainer.compute.precision}, threads: {trainer.compute.threads}",
    }


def facts_of(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """What a reader needs beside the rates."""
    kept = {key: value for key, value in result.items() if key != "rows_per_second"}
    return {f"{name}: {key}": value for key, value in kept.items()}


def add(record: Record, name: str, result: dict[str, Any]) -> None:
    """Add one run's rates to the record, and what else it found at its first run."""
    first = name not in record.values
    record.values.setdefault(name, []).extend(result["rows_per_second"])
    if first:
        record.facts |= facts_of(name, result)
