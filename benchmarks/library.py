"""Shared by the comparisons with other libraries: writing the rows, running the other program, and running
Polymodal."""

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
from benchmarks.single_steps import autotune_again
from benchmarks.vqa import Vqa
from polymodal.inference.predictor import Predictor
from polymodal.runtime.random_state import isolated_random_state
from polymodal.training.trainer import Trainer

OTHER = Path(__file__).parent / "other"
TRIAL_ROWS = 1500


def write_rows(vqa: Vqa, file: Path) -> None:
    """The training and test rows of Polymodal, as columns of image files, questions and answers."""
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
    """Run a program of `other/` in its library's environment; its last line of output is the result.

    Raises:
        MissingEnvironment: the library's environment does not exist.
        RuntimeError: the program failed; the message has the end of its output.
    """
    command = [str(python_of(environment)), str(OTHER / program), str(rows), *map(str, arguments)]
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    variables.pop("OMP_WAIT_POLICY", None)  # set by Polymodal for itself
    if threads:
        variables["OMP_NUM_THREADS"] = str(threads)
    with TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=variables)
    if done.returncode:
        raise RuntimeError(f"{program} failed in the environment of {environment}:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def better_threads(environment: str, program: str, rows: Path, *arguments: object) -> int | None:
    """One thread, or None for the library's default: the faster of the two in a short run of the program."""
    speed = {
        threads: max(run_other(environment, program, rows, *arguments, threads=threads)["rows_per_second"])
        for threads in (None, 1)
    }
    return 1 if speed[1] > speed[None] else None


def run_ours(vqa: Vqa, epochs: int) -> dict[str, Any]:
    """Train with the recipe of the demo for this many epochs, and predict the test rows."""
    splits, preparation, network = vqa.experiment.splits, vqa.experiment.preparation, vqa.network()
    schedule = vqa.recipe.training.model_copy(update={"epochs": epochs})
    recipe = vqa.recipe.model_copy(update={"training": schedule})
    with isolated_random_state(recipe.seed):
        trainer = Trainer(recipe, network, preparation, splits)
        autotune_again(trainer)
        history = trainer.run()
    test = splits["test"]
    predictions = Predictor(network, preparation, trainer.compute).predict(test)["answer"]
    target = test.table.targets["answer"][0][test.rows]
    return {
        "rows_per_second": [history.rows / history.seconds],
        "seconds": history.seconds,
        "accuracy": float(np.mean(predictions.values.argmax(1).numpy() == target)),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "compute": f"{trainer.compute.precision}, threads: {trainer.compute.threads}",
    }


def facts_of(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """The facts of a result other than its rates."""
    facts = {key: value for key, value in result.items() if key != "rows_per_second"}
    return {f"{name}: {key}": value for key, value in facts.items()}


def add(record: Record, name: str, result: dict[str, Any]) -> None:
    """Add the rates of a run to the record, and its facts at the first run."""
    first = name not in record.values
    record.values.setdefault(name, []).extend(result["rows_per_second"])
    if first:
        record.facts |= facts_of(name, result)
