"""Run one trial: train and score a recipe on every fold, with prepared data shared between trials."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polymodal.core.paths import media_cache_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors
from polymodal.experiments.estimate import measure_training_mib
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.plan import complete_schedule, make_plan
from polymodal.experiments.score import predictable_splits
from polymodal.experiments.train import train_model
from polymodal.model.model import Model
from polymodal.model.size import count_numbers, weights_bytes
from polymodal.nn.network import Network
from polymodal.recipe.recipe import Recipe
from polymodal.training.loss import Loss
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.time_limit import LimitedProgress

#: Maximum size of the prepared tables that one process keeps for later trials.
CACHE_BYTES = 4 * 2**30
#: Number of rows that are timed one by one, after a warm-up row.
TIMED_ROWS = 7
#: Modalities with encoders that are large enough to autotune the precision and the threads.
MEDIA = ("image", "audio", "video")

#: Called after each fold except the last with the candidate so far; an exception ends the trial.
FoldCallback = Callable[[Candidate], None]


class TrialRunner:
    """Prepares the folds of a search for different recipes. Recipes with the same preprocessing share prepared tables,
    and encoders with the same frozen layers share cached features.

    folder: folder for prepared tables; the caller deletes it
    """

    def __init__(self, folds: Folds, folder: Path) -> None:
        self.folds, self.folder = folds, folder
        self._cache: OrderedDict[str, tuple[Experiment, Path]] = OrderedDict()
        self._num_prepared = 0

    def experiment(self, recipe: Recipe, fold: int, progress: Progress) -> Experiment:
        """The experiment of a complete recipe on one fold.

        Raises:
            RecipeError, DataError: as in `prepare_experiment`.
        """
        if recipe.privileged:  # the experiments of model and teacher depend on each other
            return self._prepared(recipe, fold, progress)[0]
        key = json.dumps([fold, _preparation_key(recipe)], sort_keys=True)
        if key not in self._cache:
            self._cache[key] = self._prepared(recipe, fold, progress)
            self._evict()
        self._cache.move_to_end(key)
        return self._cache[key][0].with_recipe(recipe)

    def _prepared(self, recipe: Recipe, fold: int, progress: Progress) -> tuple[Experiment, Path]:
        self._num_prepared += 1
        folder, parts = self.folder / f"prepared-{self._num_prepared}", self.folds.splits[fold]
        found = prepare_experiment(
            recipe, parts, folder=folder, cache=media_cache_folder(), progress=progress, stored=self.folds.stored
        )
        return found, folder

    def _evict(self) -> None:
        sizes = {key: _bytes(folder) for key, (_, folder) in self._cache.items()}
        while len(self._cache) > len(self.folds) and sum(sizes.values()) > CACHE_BYTES:
            key, (experiment, folder) = self._cache.popitem(last=False)
            experiment.features.clear()
            sizes.pop(key)
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class TrialLimits:
    """The limits of one trial.

    deadline: the time (`time.time()`) at which it should end; None: no limit
    is_shortened: a network is trained for the epochs that fit; otherwise the trial is stopped at the deadline
    """

    deadline: float | None = None
    is_shortened: bool = False

    def progress(self) -> Progress:
        """The progress of the trial, which shows nothing."""
        return LimitedProgress(None if self.is_shortened else self.deadline)

    def end_of_training(self, folds_left: int) -> float:
        """The time (`time.perf_counter()`) at which the training of the next of `folds_left` folds should end."""
        if self.deadline is None or not self.is_shortened:
            return math.inf
        return time.perf_counter() + max(0.0, self.deadline - time.time()) / folds_left


def run_trial(
    runner: TrialRunner, recipe: Recipe, name: str, callback: FoldCallback, limits: TrialLimits | None = None
) -> Candidate:
    """Train and score `recipe` (partial or complete) fold by fold.

    callback: called with the candidate after each fold except the last; an exception ends the trial

    Raises:
        RecipeError, DataError, TrainingError: as in `fit`.
        TimeLimitReachedError: the trial was stopped at the deadline.
    """
    limits = limits or TrialLimits()
    folds, progress = runner.folds, limits.progress()
    complete = _trial_overrides(recipe, make_plan(folds.table, recipe, estimators=bool(recipe.members)).recipe)
    distributions, start = folds.reference.empty(), time.perf_counter()
    notes: list[str] = []
    for fold in range(len(folds)):
        training_rows = len(folds.splits[fold]["train"].rows)
        experiment = runner.experiment(complete_schedule(complete, training_rows), fold, progress)
        model = train_model(experiment, progress=progress, deadline=limits.end_of_training(len(folds) - fold))
        notes += [one for one in model.run.notices if "time limit" in one]
        _predict_fold(runner, experiment, model, fold, distributions)
        is_last = fold + 1 == len(folds)
        candidate = Candidate(
            name=name,
            kind="trial",
            recipe=complete.to_dict(),
            distributions={output: values.copy() for output, values in distributions.items()},
            score=folds.score(distributions),
            metrics=folds.metrics(distributions, intervals=False),
            fold_scores=folds.fold_scores(distributions),
            seconds=round(time.perf_counter() - start, 3),
            num_parameters=count_numbers(model),
            size_mib=round(weights_bytes(model) / 2**20, 3),
            latency_ms=measure_latency(model, runner) if is_last else None,
            memory_mib=training_memory(experiment, model) if is_last and not complete.members else None,
            num_folds=fold + 1,
            notes=list(dict.fromkeys(notes)),
        )
        if not is_last:
            callback(candidate)
    return candidate


def measure_latency(model: Model, runner: TrialRunner) -> float:
    """Median milliseconds to predict one row, including decoding and preprocessing."""
    table, predictor = runner.folds.table, model.row_predictor
    times = []
    for row in np.linspace(0, len(table) - 1, TIMED_ROWS + 1).astype(int):
        start = time.perf_counter()
        rows, columns = np.array([row]), model.preparation.input_columns
        block = table.block(rows, columns, errors=CellErrors(), limits=model.recipe.data.limits)
        predictor.predict(Split.all_rows(model.preparation.prepare_block(block)))
        times.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(times[1:]), 3)


def training_memory(experiment: Experiment, model: Model) -> float:
    """Training memory in MiB, measured on one training step."""
    split = experiment.feature_splits(model.network, Progress(False))["train"]
    batch = model.predictor.batch(split.table, split.rows[: experiment.recipe.training.batch_size or 1])
    loss = Loss(experiment.preparation.tasks, dict.fromkeys(experiment.preparation.tasks, 1.0), "fixed")

    def step(network: Network) -> None:
        loss(network(batch), batch).total.backward()
        network.zero_grad()

    mib = measure_training_mib(model.network, model.compute, step)
    model.network.eval()
    return mib


def _predict_fold(
    runner: TrialRunner, experiment: Experiment, model: Model, fold: int, distributions: dict[str, np.ndarray]
) -> None:
    """Write the model's predictions for the rows of `fold` to `distributions`."""
    split = predictable_splits(experiment, model, Progress(False))["test"]
    predicted = model.row_predictor.predict(split)
    for output, task in experiment.preparation.tasks.items():
        distribution = task.distribution(predicted[output].values)
        distributions[output][split.rows] = runner.folds.reference.reorder_classes(output, distribution, task)


def _trial_overrides(given: Recipe, complete: Recipe) -> Recipe:
    """The complete recipe without steps that a search does not need in each trial.

    Unimodal scores are not computed, because a search trains unimodal networks separately. Small networks use fp32 and
    one thread, unless the recipe sets these. If an image, audio or video encoder or layers of a checkpoint are trained,
    precision and threads are autotuned as usual.
    """
    training, given_training = complete.training, given.training.model_fields_set
    if not any(_trains_media(complete, name) for name in complete.inputs):
        defaults = {"precision": "fp32", "num_threads": 1}
        training = training.model_copy(
            update={key: value for key, value in defaults.items() if key not in given_training}
        )
    evaluation = complete.evaluation.model_copy(update={"unimodal_scores": "none"})
    return complete.model_copy(update={"training": training, "evaluation": evaluation})


def _trains_media(recipe: Recipe, name: str) -> bool:
    spec = recipe.inputs[name]
    if spec.modality is None or spec.encoder is None:
        return False
    fine_tuning = getattr(spec.encoder, "fine_tuning", None)
    return fine_tuning != "freeze" and (fine_tuning is not None or spec.modality.name in MEDIA)


def _preparation_key(recipe: Recipe) -> dict[str, object]:
    """The parts of a recipe that determine the preparation of rows."""
    values = recipe.to_dict()
    return {
        "inputs": {name: {**spec, "encoder": None} for name, spec in values["inputs"].items()},
        "outputs": {name: {**spec, "decoder": None} for name, spec in values["outputs"].items()},
        "data": values["data"],
        "feature_cache": values["training"]["feature_cache"],
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
