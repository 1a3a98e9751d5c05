"""The feature cache: an epoch with cached features, against encoding every item in every epoch."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import interleaved
from benchmarks.record import Record
from benchmarks.single_steps import autotune_again
from benchmarks.stamps import fetch, table
from polymodal.core.paths import cache_folder
from polymodal.core.progress import Progress, ProgressTask
from polymodal.datasets.planted import make_planted_images
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.model.make_network import make_network
from polymodal.preparation.feature_cache import FeatureCache
from polymodal.runtime.compute import keep_freed_memory
from polymodal.runtime.random_state import isolated_random_state
from polymodal.training.trainer import Trainer
from polymodal.workflows.fit import plan_fit

EPOCHS = 10
RECIPE: dict[str, Any] = {
    "pretrained": "starter",
    "inputs": {"picture": "image", "caption": "text"},
    "outputs": {"class": "classification"},
    "seed": 0,
    "training": {"early_stopping_patience": 1_000},
}
CACHED, LATER, FIRST = "ten epochs, features cached", "a later epoch", "the first epoch, with encoding"
UNCACHED = "ten epochs, every item encoded in each"
SECOND_RUN, FIRST_RUN = "a second run, to its first step", "a first run, to its first step"


class ItemCounter(Progress):
    """Counts the encoded items, by input."""

    def __init__(self) -> None:
        super().__init__(False)
        self.items: Counter[str] = Counter()

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[ProgressTask]:
        items = self.items

        class Counting(ProgressTask):
            def __call__(self, done: int) -> None:
                items[title.removeprefix("encode ")] += done

        yield Counting()


class TimedTrainer(Trainer):
    """Records the seconds of each epoch, including its validation."""

    def __init__(self, *values: Any, **options: Any) -> None:
        super().__init__(*values, **options)
        self.spent: list[float] = []
        self.before = 0.0

    def _end_epoch(self) -> None:
        start = time.perf_counter()
        super()._end_epoch()
        self.spent.append(self.history.seconds - self.before + time.perf_counter() - start)
        self.before = self.history.seconds


@dataclass(frozen=True)
class Run:
    """One run.

    ready: seconds until training can begin: loading weights, and encoding all items or finding their features
    encoding: the seconds of that for features; `encoded` is the number of items without cached features
    epochs, losses: seconds and training loss of each epoch
    compute: precision and number of threads
    """

    ready: float
    encoding: float
    epochs: list[float]
    encoded: int
    losses: list[float]
    compute: str


def run_of(experiment: Experiment, epochs: int, *, cached: bool, cache: Path | None = None) -> Run:
    """Train a fresh network.

    cached: train on features in `cache`; else every item is encoded in each step
    """
    keep_freed_memory()
    recipe = experiment.recipe
    features = recipe.training.feature_cache.model_copy(update={"enabled": cached})
    training = recipe.training.model_copy(update={"epochs": epochs, "feature_cache": features})
    recipe = recipe.model_copy(update={"training": training})
    experiment = replace(experiment.with_recipe(recipe), features=FeatureCache(cache))
    with isolated_random_state(recipe.seed):
        began, counter = time.perf_counter(), ItemCounter()
        network = make_network(recipe, experiment.preparation, pretrained=True)
        start = time.perf_counter()
        splits = experiment.feature_splits(network, counter)
        done = time.perf_counter()
        trainer = TimedTrainer(recipe, network, experiment.preparation, splits)
        autotune_again(trainer)
        history = trainer.run()
    losses = [sum(epoch.loss.values()) for epoch in history.epochs]
    compute = f"{trainer.compute.precision}, threads: {trainer.compute.threads}"
    return Run(done - began, done - start, trainer.spent, counter.items.total(), losses, compute)


def columns_of(smallest: bool) -> tuple[dict[str, list[Any]], Path | None]:
    """Stamps with their captions and classes; in the smallest size, synthetic images and captions."""
    if smallest:
        names = ["a blue bird", "a red rose", "an old boat"]
        images = make_planted_images(24, 0, size=64)["image"]
        cells = [names[row % 3] for row in range(24)]
        return {
            "picture": images,
            "caption": [f"{cell} {row}" for row, cell in enumerate(cells)],
            "class": cells,
        }, None
    stamps = fetch(cache_folder() / "benchmarks" / "stamps")
    return dict(table(stamps)), stamps


def run(smallest: bool) -> Record:
    """Seconds of epochs with frozen starter encoders."""
    record = Record(
        name="feature_cache",
        title="Frozen encoders: cached features against encoding in every epoch",
        method=(
            "Classification of Tux Paint stamps with captions: MiniLM and EfficientNet-lite0 with their real weights, "
            f"frozen, with the default fusion, {EPOCHS} epochs with validation; images are decoded in advance. With "
            "cached features, each item is encoded once, before the first epoch. Without, it is encoded in every step. "
            "Both use their fastest number format and threads; the time to measure them is not included. Loading "
            "weights counts only in the time to a first step. Cached features are on disk."
        ),
        unit="s",
        larger_is_better=False,
    )
    epochs = 2 if smallest else EPOCHS
    columns, root = columns_of(smallest)
    settings = ["training.num_threads=1", "training.precision=fp32"] if smallest else []
    plan, splits = plan_fit(columns, "class", recipe=RECIPE, settings=settings, root=root)
    with TemporaryDirectory() as name:
        work_folder = Path(name)
        experiment = prepare_experiment(
            plan.recipe, splits, folder=work_folder / "run", cache=work_folder / "media", progress=Progress(False)
        )
        runs: dict[str, Run] = {}
        folders = iter(work_folder / f"features{number}" for number in range(1_000))

        def with_cache() -> float:
            folder = next(folders)
            runs[CACHED] = run_of(experiment, epochs, cached=True, cache=folder)
            runs[SECOND_RUN] = run_of(experiment, 1, cached=True, cache=folder)
            return runs[CACHED].encoding + sum(runs[CACHED].epochs)

        def without_cache() -> float:
            runs[UNCACHED] = run_of(experiment, epochs, cached=False)
            return sum(runs[UNCACHED].epochs)

        contestants = {
            CACHED: with_cache,
            LATER: lambda: statistics.median(runs[CACHED].epochs[1:]),
            FIRST: lambda: runs[CACHED].encoding + runs[CACHED].epochs[0],
            UNCACHED: without_cache,
            SECOND_RUN: lambda: runs[SECOND_RUN].ready,
            FIRST_RUN: lambda: runs[CACHED].ready,
        }
        interleaved(record, contestants, 1 if smallest else 3, warm=0 if smallest else 1)
        record.facts = {
            "rows": len(columns["class"]),
            "items encoded by the first run": runs[CACHED].encoded,
            "items encoded by a second run": runs[SECOND_RUN].encoded,
            "with cached features": runs[CACHED].compute,
            "without cached features": runs[UNCACHED].compute,
        }
    record.compare(LATER, FIRST, None if smallest else 20)
    record.compare(CACHED, UNCACHED, None if smallest else 5)
    record.compare(SECOND_RUN, FIRST_RUN)
    return record
