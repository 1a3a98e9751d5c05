"""The end of a search: the chosen recipes trained on all rows, and saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from polymodal.core.progress import Progress
from polymodal.data.partition import make_splits
from polymodal.experiments.plan import Plan, complete_schedule
from polymodal.model.distributions import to_raw_values
from polymodal.model.ensemble import Ensemble
from polymodal.model.model import Model
from polymodal.nn.fusion.combiner import Combiner
from polymodal.recipe.recipe import Recipe
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.selection import EnsembleSelection, fit_combiner
from polymodal.workflows.fit import RunFolder, run_plan


def refit_best(
    folds: Folds, best: Candidate, selection: EnsembleSelection | None, *, out: Path, progress: Progress
) -> tuple[Model, Ensemble | None]:
    """Train the best candidate and the members of the ensemble on all rows (but for the validation part that chooses
    the epoch), and save them in `out/best` and `out/ensemble`. An ensemble of one is the best model and is not saved
    twice.

    Raises:
        TrainingError, DataError: as `fit`.
    """
    (out / "best").mkdir(parents=True, exist_ok=True)
    made = {best.name: _train(folds, best, out / "best", progress)}
    if selection is None or len(selection.members) < 2:
        return made[best.name], None
    for member in selection.members:
        if member.name not in made:
            made[member.name] = _train(folds, member, None, progress)
    ensemble = Ensemble([made[member.name] for member in selection.members], _fit_combiner(selection, folds))
    ensemble.save(out / "ensemble")
    return made[best.name], ensemble


def _train(folds: Folds, candidate: Candidate, folder: Path | None, progress: Progress) -> Model:
    """A model of the candidate's recipe, with no rows held out for a test."""
    progress.log(f"train {candidate.name} on all rows")
    recipe = Recipe.read(dict(candidate.recipe or {}))
    split = recipe.data.split.model_copy(update={"test": 0.0})
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"split": split})})
    splits = make_splits(recipe, folds.table, None, None)
    plan = Plan(complete_schedule(recipe, len(splits["train"])), [])
    return run_plan(plan, splits, RunFolder(folder, overwrite=True), progress)


def _fit_combiner(selection: EnsembleSelection, folds: Folds) -> Combiner:
    """The combination as the out-of-fold rows have it: the weights of the selection, or a fitted linear layer."""
    combiner = Combiner(selection.method, [str(place) for place in range(len(selection.members))])
    combiner.prepare({name: task.output_size for name, task in folds.tasks.items()})
    for place, (name, task) in enumerate(folds.tasks.items()):
        if selection.method == "weighted":
            with torch.no_grad():
                combiner.fitted[f"{place}"].copy_(torch.tensor(selection.weights).log())
            continue
        values = [to_raw_values(task, member.distributions[name]) for member in selection.members]
        target, present = folds.reference.truth.targets[name]
        fit_combiner(combiner, name, task, values, target, present & np.ones(len(present), bool))
    return combiner
