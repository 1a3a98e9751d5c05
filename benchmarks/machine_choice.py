"""The choice of precision and threads: does the short trial select the fastest configuration of a longer run?"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from benchmarks.measure import interleaved
from benchmarks.memory import WORDS
from benchmarks.record import Record
from benchmarks.single_steps import own_choice, stepping
from benchmarks.vqa import prepared_vqa
from polymodal.core.progress import Progress
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.model.make_network import make_network
from polymodal.runtime.compute import ComputeConfig, Precision
from polymodal.training.trainer import Trainer
from polymodal.workflows.fit import plan_fit


def run(smallest: bool) -> Record:
    """Steps per second of each configuration, for several networks."""
    record = Record(
        name="machine_choice",
        title="The choice of precision and threads",
        method=(
            "Each network trains the same steps in every configuration of the trainer (number format x threads), in "
            "turn. The ratio compares the configuration that the trainer selected by its own trial of a few steps with "
            "the fastest one: 1 is a perfect choice. The trainer needs a gain of 10 % to leave fp32 or one thread, so "
            "0.9 is within its rule."
        ),
        unit="steps/s",
        larger_is_better=True,
    )
    cores = len(os.sched_getaffinity(0))
    threads = sorted({1, min(cores, 8)})
    configs: list[tuple[Precision, int]] = [(precision, count) for precision in ("fp32", "bf16") for count in threads]
    with ExitStack() as stack:
        cases = {
            "easy-VQA": stack.enter_context(prepared_vqa(smallest)).experiment,
            "texts and numbers": stack.enter_context(_texts(smallest)),
        }
        if not smallest:
            cases["easy-VQA, size small"] = stack.enter_context(prepared_vqa(smallest, ["size=small"])).experiment
        for case, experiment in cases.items():
            own = own_choice(_trainer(experiment))
            trainers = {f"{case}: {p}, threads {t}": _trainer(experiment, ComputeConfig(p, t)) for p, t in configs}
            steps = 2 if smallest else 12
            runs = {name: partial(_speed, trainer, steps) for name, trainer in trainers.items()}
            interleaved(record, runs, 1 if smallest else 5, warm=0 if smallest else 1)
            fastest = max(trainers, key=record.median)
            record.compare(f"{case}: {own.precision}, threads {own.threads}", fastest, target=0.9)
            record.facts[f"{case}: trial of the trainer"] = own.reason
    return record


@contextmanager
def _texts(smallest: bool) -> Iterator[Experiment]:
    """A Transformer on texts, and numbers, with the options inferred from the data."""
    rows = 400 if smallest else 8_000
    words = [[WORDS[(row * step + step) % len(WORDS)] for step in range(1, 25)] for row in range(rows)]
    columns = {
        "text": [" ".join(chosen) for chosen in words],
        "first": [float(row % 17) for row in range(rows)],
        "second": [float(row % 23) for row in range(rows)],
        "answer": ["high" if row % 17 > row % 23 else "low" for row in range(rows)],
    }
    plan, splits = plan_fit(pa.table(columns), "answer")
    with TemporaryDirectory() as folder:
        yield prepare_experiment(plan.recipe, splits, folder=Path(folder), cache=None, progress=Progress(False))


def _trainer(experiment: Experiment, compute: ComputeConfig | None = None) -> Trainer:
    """A trainer with fresh weights, which selects its configuration or uses `compute`."""
    recipe = experiment.recipe
    if compute:
        fixed = {"precision": compute.precision, "num_threads": compute.threads}
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=fixed)})
    network = make_network(recipe, experiment.preparation)
    return Trainer(recipe, network, experiment.preparation, experiment.splits)


def _speed(trainer: Trainer, steps: int) -> float:
    """Steps per second of the trainer's next steps."""
    batches = itertools.islice(itertools.cycle(trainer.batches), trainer.history.steps, trainer.history.steps + steps)
    with stepping(trainer):
        start = time.perf_counter()
        for rows in batches:
            trainer._step(rows)
        return steps / (time.perf_counter() - start)
