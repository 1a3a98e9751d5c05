"""`tune`: search recipes by cross-validation, beside baselines, and end with models trained on all rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polymodal.checkpoint.model_directory import write_json
from polymodal.core.errors import DataError, RecipeError, TrainingError
from polymodal.core.paths import scratch_folder
from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.experiments.arguments import RecipeLike, as_recipe, as_table
from polymodal.experiments.plan import make_plan
from polymodal.recipe.recipe import Recipe, read_mapping
from polymodal.tuning.audit import audit_inputs
from polymodal.tuning.baselines import run_baselines
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.default_space import default_space
from polymodal.tuning.folds import Folds
from polymodal.tuning.frozen_baselines import FrozenFeatureBaselines
from polymodal.tuning.leaderboard import MAX_ROWS, LeaderboardEntry, rank_entries
from polymodal.tuning.pareto import OBJECTIVES, check_objectives, pareto_front
from polymodal.tuning.refit import refit_best
from polymodal.tuning.report import write_tuning_report
from polymodal.tuning.results import TuningResult
from polymodal.tuning.search_file import FILE as SEARCH
from polymodal.tuning.search_file import SearchSpec, share_table, create_or_resume
from polymodal.tuning.selection import select_ensemble
from polymodal.tuning.selection_bias import correct_selection_bias
from polymodal.tuning.space import SearchSpace, base_recipe
from polymodal.tuning.study import Study, repair_journal, require_optuna
from polymodal.tuning.trial import TrialRunner
from polymodal.tuning.unimodal import best_unimodal, run_unimodal
from polymodal.tuning.worker import run_workers

FILE = "leaderboard.json"
#: Shares of the time that are kept for training the chosen models on all rows, and for networks of single inputs.
REFIT_FRACTION, UNIMODAL_FRACTION = 0.12, 0.33

SpaceLike = Mapping[str, Any] | Path | str | None


def tune(
    data: Any,
    target: str | list[str] | None = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | None = None,
    space: SpaceLike = None,
    folds: int = 5,
    trials: int | None = None,
    seconds: float | None = 600.0,
    objectives: Sequence[str] = ("score",),
    jobs: int = 1,
    out: Path | str,
    resume: bool = False,
    root: Path | str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> TuningResult:
    """Search for the recipe that scores best by cross-validation, and train it on all rows.

    data, target, recipe, settings, root, progress: as in `fit`; what the recipe says is not changed by the search
    space: recipe paths with choices (`[a, b]`) or ranges (`{low, high, log}`), or a YAML or JSON file of them; None
        for `default_space`
    folds: every candidate is tried on the same ones, grouped and stratified as `data.split` says
    trials, seconds: the search ends with either; None for no limit. One trial is always run to its end.
    objectives: `score`, and what it may cost: `latency`, `memory`, `size`, `seconds`. The first says which
        recipe is best.
    jobs: processes that try recipes at the same time, one thread each
    out: the folder for trials, leaderboard and models; with `resume`, the search there is gone on with, for `seconds`
        more
    seed: of the search, not of the folds and networks, which is `recipe.seed`

    Raises:
        RecipeError, DataError: as `fit`; also for a space that the recipe cannot have.
        TrainingError: no trial could be run to its end; the reasons are listed.
        MissingExtraError: Optuna is not installed.
        PolymodalError: `out` holds another search, or one that is not to be resumed.
    """
    require_optuna()
    check_objectives(objectives)
    _check_counts(trials, seconds, jobs)
    begun, shown, folder = time.time(), Progress(progress), Path(out)
    if resume and space is None and (folder / SEARCH).is_file():
        space = SearchSpec.read(folder).space  # what the default is follows from the time, which may be another now
    table = as_table(data, root)
    if table is None:
        raise DataError("there is no data to train on")
    given = as_recipe(recipe, settings)
    plan = _plan(table, given, target)
    asked = _search_space(space, given, plan, len(table), seconds)
    job = SearchSpec(
        recipe=asked.base,
        space=asked.to_dict(),
        folds=folds,
        seed=seed,
        objectives=list(objectives),
        fingerprint=table.fingerprint(),
    )
    divided, dimensions = job.open(table)
    job = create_or_resume(job, folder, resume=resume)
    repair_journal(folder)
    study = Study(folder, dimensions, job.objectives, job.seed)
    study.enqueue_initial(trials)
    models = FrozenFeatureBaselines(divided, progress=shown)
    baselines = _baselines(models, folder, shown)
    _report_cell_errors(models.features.faults, shown)
    searching = time.time()
    end = None if seconds is None else begun + seconds * (1 - REFIT_FRACTION)
    deadline = end if seconds is None or end is None or len(divided.recipe.inputs) < 2 else end - seconds * UNIMODAL_FRACTION
    if jobs == 1:
        with scratch_folder() as place:
            study.run(TrialRunner(divided, place), max_trials=trials, deadline=deadline, log=shown.log, parent=None)
    else:
        source, where = share_table(table, data, root, folder)
        replace(job, source=source, root=where).write(folder)
        run_workers(study, folder, jobs=jobs, most=trials, deadline=deadline, say=shown.log)
    found = _leaderboard(study, divided, baselines)
    found = _add_unimodal(found, divided, folder, end, shown)
    training = time.time()
    tuning = _finish(folder, models, found, study, shown)
    ended = time.time()
    spent = {
        "baselines": searching - begun,
        "search": training - searching,
        "models": ended - training,
        "total": ended - begun,
    }
    tuning = replace(tuning, seconds={name: round(value, 3) for name, value in spent.items()})
    write_json(folder / FILE, tuning.to_dict())
    write_tuning_report(folder, tuning)
    return tuning


def _report_cell_errors(faults: CellErrors, progress: Progress) -> None:
    """Say before the search begins that cells cannot be used; the model directory lists them at its end."""
    distinct = CellErrors(found=list(dict.fromkeys(faults.found)))  # the same cell is met in every fold
    if distinct.found:
        columns = ", ".join(f"{column}: {count}" for column, count in distinct.counts().items())
        progress.log(f"{len(distinct.found)} cells cannot be used and count as missing ({columns})")


def _check_counts(trials: int | None, seconds: float | None, jobs: int) -> None:
    for name, value in (("trials", trials), ("seconds", seconds), ("jobs", jobs)):
        if value is not None and value <= 0:
            raise RecipeError("", f"{name} must be above 0 (given: {value})")
    if trials is None and seconds is None:
        raise RecipeError("", "a search needs an end: give trials, seconds or both")


def _plan(table: Table, given: Recipe, target: str | list[str] | None) -> Recipe:
    """The whole recipe that `given` and the table make.

    Raises:
        RecipeError: a search cannot combine what the recipe predicts, or cannot draw the folds that it names.
    """
    targets = [target] if isinstance(target, str) else list(target or [])
    plan = make_plan(table, given, targets).recipe
    _check_tasks(plan)
    if plan.data.split.column is not None:
        raise RecipeError(
            "data.split.column", "a search draws its own folds: set it to null and put the column into data.ignore_columns"
        )
    return plan


def _search_space(space: SpaceLike, given: Recipe, plan: Recipe, rows: int, seconds: float | None) -> SearchSpace:
    """What to search: the space that is asked for, or the default one of the time and the number of rows."""
    if space is None:
        wanted: Mapping[str, Any] = default_space(given, plan, rows, seconds)
    else:
        wanted = space if isinstance(space, Mapping) else read_mapping(Path(space))
    return SearchSpace.read(wanted, base_recipe(given, plan, wanted))


def _baselines(models: FrozenFeatureBaselines, folder: Path, progress: Progress) -> list[Candidate]:
    """The baselines, from an earlier run of the search where it got so far."""
    place = folder / "baselines"
    known = sorted(place.glob("*.json"), key=lambda path: int(path.stem)) if (place / "complete").is_file() else []
    if known:
        return [Candidate.load(place, path.stem) for path in known]
    found = run_baselines(models.folds, progress=progress, models=models)
    for number, one in enumerate(found):
        one.save(place, str(number))
    (place / "complete").touch()
    return found


def _leaderboard(study: Study, folds: Folds, baselines: Sequence[Candidate]) -> list[LeaderboardEntry]:
    """Every trial that was scored, and the baselines.

    Raises:
        TrainingError: no trial is whole.
    """
    attempts = study.records()
    entries = [LeaderboardEntry(one, "baseline", {}) for one in baselines]
    for attempt in attempts:
        candidate = study.candidate(attempt)
        if candidate is not None:
            entries.append(LeaderboardEntry(candidate, attempt.status, attempt.changes))
    if not any(entry.status == "complete" for entry in entries):
        reasons = {attempt.reason: attempt.name for attempt in reversed(attempts) if attempt.reason}
        listed = "\n".join(f"{name}: {reason}" for reason, name in reasons.items())
        raise TrainingError(f"none of {len(attempts)} trials could be run to its end\n{listed}")
    return rank_entries(entries)


def _add_unimodal(
    entries: list[LeaderboardEntry], folds: Folds, folder: Path, deadline: float | None, progress: Progress
) -> list[LeaderboardEntry]:
    """The entries with networks of each input alone, and the best that each input gives."""
    trials = [entry.candidate for entry in entries if entry.status == "complete"]
    with scratch_folder() as place:
        bench = TrialRunner(folds, place)
        networks = run_unimodal(trials, bench, folder / "alone", deadline=deadline, say=progress.log)
    baselines = [entry.candidate for entry in entries if entry.status == "baseline"]
    singles = [*networks, *best_unimodal([*baselines, *networks], folds)]
    return rank_entries([*entries, *(LeaderboardEntry(one, "baseline", {}) for one in singles)])


def _finish(folder: Path, models: FrozenFeatureBaselines, entries: list[LeaderboardEntry], study: Study, progress: Progress) -> TuningResult:
    """Intervals of the best, the ensemble, the corrected scores, and the models that are trained on all rows."""
    folds = models.folds
    trials = [entry for entry in entries if entry.status == "complete"]
    whole = [entry.candidate for entry in trials]
    with progress.task("intervals and ensemble", None):
        scored = {entry.candidate.name: _scored(entry, folds) for entry in trials[:MAX_ROWS]}
        entries = [scored.get(entry.candidate.name, entry) for entry in entries]
        first = OBJECTIVES[study.objectives[0]]
        best = max(whole, key=first)
        selection = select_ensemble(whole, folds)
        corrected = correct_selection_bias(whole, folds, folds.recipe.seed)
    compared = [entry.candidate for entry in entries if entry.status != "pruned"]
    audited = audit_inputs(compared, folds, progress=progress, models=models)
    model, ensemble = refit_best(folds, best, selection, out=folder, progress=progress)
    return TuningResult(
        folder=folder,
        folds=folds,
        model=model,
        ensemble=ensemble,
        best=next(entry.candidate for entry in entries if entry.candidate.name == best.name),
        entries=entries,
        failed=[attempt for attempt in study.records() if attempt.status in ("failed", "unfinished")],
        selection=selection,
        corrected=corrected,
        front=pareto_front(whole, study.objectives),
        audit=audited,
        objectives=study.objectives,
        seconds={},
    )


def _scored(entry: LeaderboardEntry, folds: Folds) -> LeaderboardEntry:
    return replace(entry, candidate=replace(entry.candidate, metrics=folds.metrics(entry.candidate.distributions)))


def _check_tasks(plan: Recipe) -> None:
    """Raises RecipeError for what a search cannot combine or does not train."""
    if plan.objectives:
        raise RecipeError(
            "objectives",
            "a search trains heads on features: pretrain with the objectives first, and let it start there",
        )
    for name, spec in plan.outputs.items():
        task = None if spec.task is None else find("task", spec.task.name)
        if task is not None and (task.is_generative or task.is_embedding):
            what, instead = ("texts", "cross-validate") if task.is_generative else ("embeddings", "fit")
            problem = f"a search combines decisions, and {what} are none: compare recipes by `{instead}`"
            raise RecipeError(f"outputs.{name}.task", problem)
