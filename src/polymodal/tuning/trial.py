"""One trial: a recipe trained and scored on every fold, with what trials share prepared once."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from polymodal.core.paths import media_cache_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors
from polymodal.experiments.estimate import measure_training_mib
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.plan import complete_schedule, make_plan
from polymodal.experiments.train import train_model
from polymodal.model.model import Model
from polymodal.nn.network import Network
from polymodal.recipe.recipe import Recipe
from polymodal.training.loss import Loss
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds

#: Bytes of prepared tables that one process keeps for later trials.
CACHE_BYTES = 4 * 2**30
#: Rows that are timed one by one, after one that is not counted.
TIMED_ROWS = 7
#: Modalities whose own encoders are large enough that the number format and threads are worth measuring.
MEDIA = ("image", "audio", "video")

#: Called after each fold but the last with the candidate so far; what it raises ends the trial.
FoldCallback = Callable[[Candidate], None]


class TrialRunner:
    """The folds of a search, prepared for one recipe after another. Recipes that prepare their rows in the same way
    share prepared tables, and encoders that settle the same layers share features.

    place: a folder for prepared tables, deleted by whoever made it
    """

    def __init__(self, folds: Folds, place: Path) -> None:
        self.folds, self.place = folds, place
        self._kept: OrderedDict[str, tuple[Experiment, Path]] = OrderedDict()
        self._made = 0

    def experiment(self, recipe: Recipe, fold: int) -> Experiment:
        """The experiment of a complete recipe on one fold.

        Raises:
            RecipeError, DataError: as `prepare_experiment`.
        """
        if recipe.privileged:  # two experiments hang together there: the model's and its teacher's
            return self._prepared(recipe, fold)[0]
        key = json.dumps([fold, _preparation_key(recipe)], sort_keys=True)
        if key not in self._kept:
            self._kept[key] = self._prepared(recipe, fold)
            self._make_room()
        self._kept.move_to_end(key)
        return self._kept[key][0].with_recipe(recipe)

    def _prepared(self, recipe: Recipe, fold: int) -> tuple[Experiment, Path]:
        self._made += 1
        folder = self.place / f"prepared-{self._made}"
        parts, hidden = self.folds.splits[fold], Progress(False)
        return prepare_experiment(recipe, parts, folder=folder, cache=media_cache_folder(), progress=hidden), folder

    def _make_room(self) -> None:
        sizes = {key: _bytes(folder) for key, (_, folder) in self._kept.items()}
        while len(self._kept) > len(self.folds) and sum(sizes.values()) > CACHE_BYTES:
            key, (experiment, folder) = self._kept.popitem(last=False)
            experiment.features.clear()
            sizes.pop(key)
            shutil.rmtree(folder, ignore_errors=True)


def run_trial(runner: TrialRunner, recipe: Recipe, name: str, callback: FoldCallback) -> Candidate:
    """Train and score `recipe` (with gaps, or complete) fold by fold.

    watch: is given the candidate after each fold but the last; what it raises ends the trial

    Raises:
        RecipeError, DataError, TrainingError: as `fit`.
    """
    folds = runner.folds
    complete = _trial_overrides(recipe, make_plan(folds.table, recipe).recipe)
    distributions, begun = folds.reference.empty(), time.perf_counter()
    for fold in range(len(folds)):
        training_rows = len(folds.splits[fold]["train"].rows)
        experiment = runner.experiment(complete_schedule(complete, training_rows), fold)
        model = train_model(experiment, progress=Progress(False))
        _predict_fold(runner, experiment, model, fold, distributions)
        done = fold + 1 == len(folds)
        candidate = Candidate(
            name=name,
            kind="trial",
            recipe=complete.to_dict(),
            distributions={output: values.copy() for output, values in distributions.items()},
            score=folds.score(distributions),
            metrics=folds.metrics(distributions, intervals=False),
            fold_scores=folds.fold_scores(distributions),
            seconds=round(time.perf_counter() - begun, 3),
            num_parameters=sum(parameter.numel() for parameter in model.network.parameters()),
            size_mib=round(sum(one.nbytes for one in model.network.state_dict().values()) / 2**20, 3),
            latency_ms=measure_latency(model, runner) if done else None,
            memory_mib=training_memory(experiment, model) if done else None,
            num_folds=fold + 1,
        )
        if not done:
            callback(candidate)
    return candidate


def measure_latency(model: Model, bench: TrialRunner) -> float:
    """Median milliseconds from one row's cells to its answer: decoding, preparation, encoders and all."""
    table = bench.folds.table
    spent = []
    for row in np.linspace(0, len(table) - 1, TIMED_ROWS + 1).astype(int):
        begun = time.perf_counter()
        rows, columns = np.array([row]), model.preparation.input_columns
        block = table.block(rows, columns, faults=CellErrors(), limits=model.recipe.data.limits)
        model.predictor.predict(Split.all_rows(model.preparation.prepare_block(block)))
        spent.append((time.perf_counter() - begun) * 1e3)
    return round(statistics.median(spent[1:]), 3)


def training_memory(experiment: Experiment, model: Model) -> float:
    """MiB that training the model holds, from one of its steps."""
    split = experiment.feature_splits(model.network, Progress(False))["train"]
    batch = model.predictor.batch(split.table, split.rows[: experiment.recipe.training.batch_size or 1])
    loss = Loss(experiment.preparation.tasks, dict.fromkeys(experiment.preparation.tasks, 1.0), "fixed")

    def step(network: Network) -> None:
        loss(network(batch), batch).total.backward()
        network.zero_grad()

    found = measure_training_mib(model.network, model.compute, step)
    model.network.eval()
    return found


def _predict_fold(
    bench: TrialRunner, experiment: Experiment, model: Model, fold: int, distributions: dict[str, np.ndarray]
) -> None:
    """Put the model's answers for the rows of `fold` into `distributions`."""
    split = experiment.feature_splits(model.network, Progress(False))["test"]
    decided = model.predictor.predict(split)
    for output, task in experiment.preparation.tasks.items():
        own = task.distribution(decided[output].values)
        distributions[output][split.rows] = bench.folds.reference.reorder_classes(output, own, task)


def _trial_overrides(given: Recipe, complete: Recipe) -> Recipe:
    """The complete recipe without what a search does not use or measure again for each trial.

    Single inputs are baselines. A small network computes fastest in fp32 on one thread; where the recipe leaves that
    open and an own encoder of pictures, sounds or clips learns, or layers of a checkpoint, it is measured as ever.
    """
    training, said = complete.training, given.training.model_fields_set
    if not any(_trains_media(complete, name) for name in complete.inputs):
        small = {"precision": "fp32", "num_threads": 1}
        training = training.model_copy(update={key: value for key, value in small.items() if key not in said})
    evaluation = complete.evaluation.model_copy(update={"unimodal_scores": "none"})
    return complete.model_copy(update={"training": training, "evaluation": evaluation})


def _trains_media(recipe: Recipe, name: str) -> bool:
    spec = recipe.inputs[name]
    if spec.modality is None or spec.encoder is None:
        return False
    fine_tuning = getattr(spec.encoder, "fine_tuning", None)
    return fine_tuning != "freeze" and (fine_tuning is not None or spec.modality.name in MEDIA)


def _preparation_key(recipe: Recipe) -> dict[str, object]:
    """Everything of a recipe that decides how rows are prepared."""
    plain = recipe.to_dict()
    return {
        "inputs": {name: {**spec, "encoder": None} for name, spec in plain["inputs"].items()},
        "outputs": {name: {**spec, "decoder": None} for name, spec in plain["outputs"].items()},
        "data": plain["data"],
        "features": plain["training"]["features"],
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
