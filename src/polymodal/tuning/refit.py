"""Train the selected recipes of a search on all rows, and save the models."""

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from polymodal.core.progress import Progress
from polymodal.data.partition import make_splits
from polymodal.data.table.cell_errors import BadCellsWarning
from polymodal.experiments.plan import Plan, complete_schedule
from polymodal.model.distributions import to_raw_values
from polymodal.model.ensemble import Ensemble
from polymodal.model.model import Model
from polymodal.nn.fusion.combiner import Combiner
from polymodal.recipe.recipe import Recipe
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.selection import EnsembleSelection, fit_combiner
from polymodal.workflows.fit import run_plan
from polymodal.workflows.run_folder import RunFolder


def refit_best(
    folds: Folds,
    best: Candidate,
    selection: EnsembleSelection | None,
    *,
    out: Path,
    progress: Progress,
    deadline: float | None = None,
) -> tuple[Model, Ensemble | None]:
    """Train the best candidate and the members of the ensemble on all rows (except the validation rows, which select
    the epoch), and save them to `out/best` and `out/ensemble`. An ensemble with one member is not saved.

    deadline: the time (`time.time()`) at which the training should end: a network has the epochs that fit, and an
        ensemble whose members need more time, as their trials show, is not trained

    Raises:
        TrainingError, DataError: as in `fit`.
    """
    models = {best.name: _train(folds, best, out / "best", progress, deadline)}
    if selection is None or len(selection.members) < 2:
        return models[best.name], None
    others = [member for member in selection.members if member.name not in models]
    if deadline is not None and time.time() + sum(_refit_seconds(one) for one in others) > deadline:
        progress.log("the time limit leaves no time to train the ensemble: --resume with more time trains it")
        return models[best.name], None
    for member in others:
        models[member.name] = _train(folds, member, None, progress, deadline)
    ensemble = Ensemble([models[member.name] for member in selection.members], _fit_combiner(selection, folds))
    ensemble.save(out / "ensemble", overwrite=True)
    return models[best.name], ensemble


def _refit_seconds(candidate: Candidate) -> float:
    """The expected time to train a candidate on all rows, of which a fold of its trial left out one part."""
    count = candidate.num_folds
    return candidate.seconds / count * (count / max(1, count - 1))


def _train(
    folds: Folds, candidate: Candidate, folder: Path | None, progress: Progress, deadline: float | None
) -> Model:
    """Train the recipe of a candidate without test rows."""
    progress.log(f"train {candidate.name} on all rows")
    recipe = Recipe.read(dict(candidate.recipe or {}))
    split = recipe.data.split.model_copy(update={"test_size": 0.0})
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"split": split})})
    splits = make_splits(recipe, folds.table, None, None)
    plan = Plan(complete_schedule(recipe, len(splits["train"])), [], names_inputs=True)
    end = math.inf if deadline is None else time.perf_counter() + deadline - time.time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadCellsWarning)  # `tune` has warned of the same cells
        return run_plan(plan, splits, RunFolder(folder, overwrite=True), progress, deadline=end, stored=folds.stored)


def _fit_combiner(selection: EnsembleSelection, folds: Folds) -> Combiner:
    """The combiner of the ensemble: the selected weights, or a linear layer fitted on the out-of-fold predictions."""
    combiner = Combiner(selection.method, [str(index) for index in range(len(selection.members))])
    combiner.prepare({name: task.output_size for name, task in folds.tasks.items()})
    for index, (name, task) in enumerate(folds.tasks.items()):
        if selection.method == "weighted":
            with torch.no_grad():
                combiner.fitted[f"{index}"].copy_(torch.tensor(selection.weights).log())
            continue
        values = [to_raw_values(task, member.distributions[name]) for member in selection.members]
        target, present = folds.reference.truth.targets[name]
        fit_combiner(combiner, name, task, values, target, present & np.ones(len(present), bool))
    return combiner
