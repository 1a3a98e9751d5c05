"""The feature cache: an epoch over kept features, against encoding every item in every epoch."""

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
from benchmarks.single_steps import decide_anew
from benchmarks.stamps import fetch, table
from polymodal.core.paths import cache_folder
from polymodal.core.progress import Progress, ProgressTask
from polymodal.datasets.planted import make_planted_images
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.model.model import make_network
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
KEPT, LATER, FIRST = "ten epochs, features kept", "a later epoch", "the first epoch, with encoding"
WHOLE = "ten epochs, every item encoded in each"
AGAIN, ANEW = "a second run, to its first step", "a first run, to its first step"


class Counted(Progress):
    """Counts the items that are encoded, by input."""

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


class Clocked(Trainer):
    """Takes down the seconds of each epoch, its validation included."""

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

    ready: seconds until training can begin: reading weights, and encoding or finding the features of every item
    encoding: of these the seconds for features; `encoded` is the number of items that were not found
    epochs, losses: seconds and training loss of each epoch
    compute: how it computed
    """

    ready: float
    encoding: float
    epochs: list[float]
    encoded: int
    losses: list[float]
    compute: str


def run_of(experiment: Experiment, epochs: int, *, kept: bool, cache: Path | None = None) -> Run:
    """Train a fresh network.

    kept: over features, in `cache`; else every item is encoded where it is used
    """
    keep_freed_memory()
    recipe = experiment.recipe
    features = recipe.training.feature_cache.model_copy(update={"cache": kept})
    training = recipe.training.model_copy(update={"epochs": epochs, "features": features})
    recipe = recipe.model_copy(update={"training": training})
    experiment = replace(experiment.with_recipe(recipe), features=FeatureCache(cache))
    with isolated_random_state(recipe.seed):
        begun, counted = time.perf_counter(), Counted()
        network = make_network(recipe, experiment.preparation, pretrained=True)
        start = time.perf_counter()
        splits = experiment.feature_splits(network, counted)
        done = time.perf_counter()
        trainer = Clocked(recipe, network, experiment.preparation, splits)
        decide_anew(trainer)
        history = trainer.run()
    losses = [sum(epoch.loss.values()) for epoch in history.epochs]
    compute = f"{trainer.compute.precision}, threads: {trainer.compute.threads}"
    return Run(done - begun, done - start, trainer.spent, counted.items.total(), losses, compute)


def columns_of(smallest: bool) -> tuple[dict[str, list[Any]], Path | None]:
    """Stamps with their captions and classes; in the smallest size, drawings and made-up captions."""
    if smallest:
        names = ["a blue bird", "a red rose", "an old boat"]
        pictures = make_planted_images(24, 0, size=64)["image"]
        cells = [names[row % 3] for row in range(24)]
        return {
            "picture": pictures,
            "caption": [f"{cell} {row}" for row, cell in enumerate(cells)],
            "class": cells,
        }, None
    stamps = fetch(cache_folder() / "benchmarks" / "stamps")
    return dict(table(stamps)), stamps


def run(smallest: bool) -> Record:
    """Seconds of epochs with frozen starter encoders."""
    record = Record(
        name="feature_cache",
        title="Frozen encoders: kept features against encoding in every epoch",
        method=(
            "Stamps of Tux Paint with captions to class: MiniLM and EfficientNet-lite0 with their real weights, "
            f"frozen, into the default fusion, {EPOCHS} epochs with validation; pictures are decoded before. With "
            "features kept, each item is encoded once, before the first epoch. Without, it is encoded in every step. "
            "Both compute as they found fastest (number format, threads), whose timing is left out. Loading "
            "weights counts only in the time to a first step. Kept features are on disk."
        ),
        unit="s",
        larger_is_better=False,
    )
    epochs = 2 if smallest else EPOCHS
    columns, root = columns_of(smallest)
    settings = ["training.num_threads=1", "training.precision=fp32"] if smallest else []
    plan, splits = plan_fit(columns, "class", recipe=RECIPE, settings=settings, root=root)
    with TemporaryDirectory() as name:
        place = Path(name)
        experiment = prepare_experiment(
            plan.recipe, splits, folder=place / "run", cache=place / "media", progress=Progress(False)
        )
        runs: dict[str, Run] = {}
        folders = iter(place / f"features{number}" for number in range(1_000))

        def cached() -> float:
            folder = next(folders)
            runs[KEPT] = run_of(experiment, epochs, kept=True, cache=folder)
            runs[AGAIN] = run_of(experiment, 1, kept=True, cache=folder)
            return runs[KEPT].encoding + sum(runs[KEPT].epochs)

        def whole() -> float:
            runs[WHOLE] = run_of(experiment, epochs, kept=False)
            return sum(runs[WHOLE].epochs)

        contestants = {
            KEPT: cached,
            LATER: lambda: statistics.median(runs[KEPT].epochs[1:]),
            FIRST: lambda: runs[KEPT].encoding + runs[KEPT].epochs[0],
            WHOLE: whole,
            AGAIN: lambda: runs[AGAIN].ready,
            ANEW: lambda: runs[KEPT].ready,
        }
        interleaved(record, contestants, 1 if smallest else 3, warm=0 if smallest else 1)
        record.facts = {
            "rows": len(columns["class"]),
            "items encoded by the first run": runs[KEPT].encoded,
            "items encoded by a second run": runs[AGAIN].encoded,
            "with features kept": runs[KEPT].compute,
            "without": runs[WHOLE].compute,
        }
    record.compare(LATER, FIRST, None if smallest else 20)
    record.compare(KEPT, WHOLE, None if smallest else 5)
    record.compare(AGAIN, ANEW)
    return record
