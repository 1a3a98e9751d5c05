"""`tune`: search recipes by cross-validation, compare them with baselines, and train the best on all rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polymodal.checkpoint.directory_kinds import SEARCH as SEARCH_KIND
from polymodal.checkpoint.model_directory import write_json
from polymodal.checkpoint.output_directory import OutputDirectory
from polymodal.checkpoint.output_file import paths_in
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import DataError, RecipeError, TrainingError
from polymodal.core.formatting import count_noun
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.locations import absolute_source
from polymodal.data.table.table import Table
from polymodal.engines.choose import EngineName
from polymodal.engines.ray_cluster import require_ray
from polymodal.experiments.arguments import (
    RecipeLike,
    TargetLike,
    as_recipe,
    as_table,
    as_targets,
    without_known_targets,
)
from polymodal.experiments.experiment import prepare_experiment
from polymodal.experiments.live_options import check_live_options
from polymodal.experiments.plan import make_plan
from polymodal.experiments.stored_inputs import StoredInputs
from polymodal.experiments.time_limit import encoding_seconds, warn_of_limit
from polymodal.model.make_encoders import make_encoders
from polymodal.preparation.prepared_store import PreparedStore
from polymodal.preparation.usable_cells import warn_bad_columns
from polymodal.recipe.recipe import Recipe, read_mapping
from polymodal.recipe.run_context import RunContext
from polymodal.tuning.audit import audit_inputs, prepare_audit
from polymodal.tuning.baselines import run_baselines
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.default_space import default_space
from polymodal.tuning.folds import Folds
from polymodal.tuning.frozen_baselines import FrozenFeatureBaselines
from polymodal.tuning.leaderboard import MAX_ROWS, LeaderboardEntry, rank_entries
from polymodal.tuning.limits import BASELINE_FRACTION, SCORE_FRACTION, SearchLimits, check_counts
from polymodal.tuning.pareto import OBJECTIVES, check_objectives, pareto_front
from polymodal.tuning.refit import refit_best
from polymodal.tuning.report import write_tuning_report
from polymodal.tuning.results import TuningResult
from polymodal.tuning.search_file import FILE as SEARCH
from polymodal.tuning.search_file import SearchSpec, create_or_resume, share_table
from polymodal.tuning.selection import select_ensemble
from polymodal.tuning.selection_bias import correct_selection_bias
from polymodal.tuning.space import SearchSpace, base_recipe
from polymodal.tuning.storage import check_storage, new_study_name, public_url, require_optuna
from polymodal.tuning.study import Study, repair_journal
from polymodal.tuning.trial import TrialRunner
from polymodal.tuning.unimodal import best_unimodal, run_unimodal
from polymodal.tuning.worker import run_trials

FILE = "leaderboard.json"

SpaceLike = Mapping[str, Any] | Path | str | None


@check_arguments
def tune(
    data: Any,
    target: TargetLike = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | Mapping[str, Any] | None = None,
    space: SpaceLike = None,
    folds: int = 5,
    trials: int | None = None,
    time_limit: float | None = 600.0,
    optimize: Sequence[str] = ("score",),
    jobs: int = 1,
    engine: EngineName = "local",
    storage: str | None = None,
    prepared: Path | str | None = None,
    out: Path | str,
    resume: bool = False,
    overwrite: bool = False,
    root: Path | str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> TuningResult:
    """Search for the recipe with the best cross-validation score, and train it on all rows.

    data, target, recipe, settings, root, progress: as in `fit`; settings of the recipe are not searched
    space: recipe paths with choices (`[a, b]`) or ranges (`{low, high, log}`), or a YAML or JSON file with them;
        default: `default_space`
    folds: number of folds; all candidates use the same folds, grouped and stratified by `data.split`
    trials, time_limit: limits of the number of trials and of the time in seconds; None: no limit. A trial or a network
        that runs at its end is stopped and dropped. The first trial is always completed; its network is trained for the
        epochs that fit.
    optimize: `score` and costs (`latency`, `memory`, `size`, `seconds`); the first one selects the best recipe
    jobs: number of parallel processes, one thread each
    engine: `local`: processes of this machine; `ray`: actors of the Ray cluster at `RAY_ADDRESS`, whose machines have
        `out` and `data` under the same paths
    storage: URL of a database for the record of the trials, `postgresql://` or `mysql://`, so that other machines can
        join the search by `tune_worker`; default: a journal in `out`
    prepared: folder or address of the store of prepared rows that `prepare` has made of `data`. The trials read its
        decoded media, tokens and features. Without `recipe`, its inputs, outputs and split are those of the store
    out: folder for trials, leaderboard and models; only one process can write it
    resume: continue the search in `out` for another `time_limit`
    overwrite: replace the search in `out` when the new one is complete
    seed: seed of the search; the seed of folds and networks is `recipe.seed`

    Raises:
        RecipeError, DataError: as in `fit`; also for a space that does not match the recipe.
        TrainingError: no trial was completed; the message lists the reasons.
        MissingExtraError: Optuna, Ray or the driver of the database is not installed.
        PolymodalError: `out` contains another search, or the database cannot be used.
        OutputError: `out` is not empty and neither `resume` nor `overwrite` is set; it holds other files; another
            process writes it; or the disk is full.
    """
    require_optuna()
    check_objectives(optimize)
    check_counts(trials, time_limit, jobs)
    if engine == "ray":
        require_ray()
    check_storage(storage)
    start, progress_bar, folder = time.time(), Progress(progress), Path(out)
    directory = OutputDirectory(folder, SEARCH_KIND, overwrite, resume, paths_in(data, recipe, space))
    directory.check()
    if resume and space is None and (folder / SEARCH).is_file():
        space = SearchSpec.read(folder).space  # the default space depends on `time_limit`, which may differ now
    table = as_table(data, root)
    if table is None:
        raise DataError("there is no training data")
    if prepared is not None and recipe is None:
        store = StoredInputs(PreparedStore.open(prepared), table, None)
        recipe, target = store.search_recipe(), without_known_targets(store.recipe, target)
    given = as_recipe(recipe, settings)
    plan = _plan(table, given, target)
    search_space = _search_space(space, given, plan, len(table), time_limit)
    run = RunContext(plan, given, "tune", data_sets=len(table.data_sets) or 1)
    check_live_options(run, varied=frozenset(search_space.dimensions))
    spec = SearchSpec(
        recipe=search_space.base,
        space=search_space.to_dict(),
        folds=folds,
        seed=seed,
        objectives=list(optimize),
        fingerprint=table.fingerprint(),
        prepared=None if prepared is None else absolute_source(prepared),
        storage=None if storage is None else public_url(storage),
        study=new_study_name(storage),
    )
    fold_data, dimensions = spec.open(table)
    limits = SearchLimits(start, time_limit, trials, jobs, engine)
    warned = _check_cells(fold_data, limits.end)
    with directory.writing() as work:
        spec = create_or_resume(spec, work, folder)
        source = share_table(table, data, root, work) if jobs > 1 or engine == "ray" else None
        if source is not None:
            replace(spec, source=source[0], root=source[1]).write(work)
        place = spec.record(work, storage)
        with place.errors():
            repair_journal(work)
            study = Study(work, dimensions, spec.objectives, spec.seed, storage=place)
            study.enqueue_initial(trials)
            study.open_to_others(trials, _deadline(limits, dimensions, fold_data))
            tuning = replace(_search(work, study, fold_data, limits, warned, progress_bar), folder=folder)
        write_json(work / FILE, tuning.to_dict())
        write_tuning_report(work, tuning)
    return tuning


def _deadline(limits: SearchLimits, space: SearchSpace, folds: Folds) -> float | None:
    """The end of the trials."""
    return limits.deadline(len(folds.recipe.inputs) if space.has_networks else 1)


def _search(
    folder: Path, study: Study, folds: Folds, limits: SearchLimits, warned: set[str], progress: Progress
) -> TuningResult:
    """Run the baselines and the trials, and train the selected models.

    warned: columns with many unusable cells, of which the user was warned
    """
    models = FrozenFeatureBaselines(folds, progress=progress)
    baselines_end = limits.after(BASELINE_FRACTION)
    baselines = _baselines(models, folder, progress, baselines_end)
    prepare_audit(models, progress=progress, deadline=baselines_end)
    _report_cell_errors(models.features.cell_errors, warned, progress)
    searching, deadline = time.time(), _deadline(limits, study.space, folds)
    run_trials(study, folds, limits, deadline, progress.log)
    study.close_to_others()
    entries = _leaderboard(study, folds, baselines)
    entries = _add_unimodal(entries, folds, folder, limits.end, progress)
    training = time.time()
    tuning = _finish(folder, models, entries, study, limits, progress)
    ended = time.time()
    times = {
        "baselines": searching - limits.start,
        "search": training - searching,
        "models": ended - training,
        "total": ended - limits.start,
    }
    return replace(tuning, seconds={name: round(value, 3) for name, value in times.items()})


def _check_cells(folds: Folds, deadline: float | None) -> set[str]:
    """Prepare the first fold, warn of columns with many unusable cells, and return these columns. Warn if the frozen
    encoders alone need the time until `deadline`.

    Raises:
        DataError: the training rows have no usable cell of an input or a target.
    """
    with scratch_folder() as folder:
        experiment = prepare_experiment(
            folds.recipe,
            folds.splits[0],
            folder=folder,
            cache=media_cache_folder(),
            progress=Progress(False),
            stored=folds.stored,
        )
        warn_bad_columns(experiment.bad_columns)
        if deadline is not None:
            encoders = make_encoders(folds.recipe, experiment.preparation, folds.recipe.inputs, pretrained=True)
            table = experiment.splits["train"].table
            seconds = encoding_seconds(folds.recipe, experiment.preparation, encoders, table)
            warn_of_limit(
                deadline - time.time(), seconds, f"encoding {len(table):,} rows, unless they are in the cache,"
            )
        return set(experiment.bad_columns)


def _report_cell_errors(cell_errors: CellErrors, warned: set[str], progress: Progress) -> None:
    """Log the bad cells of columns without a warning before the search starts; the model directory will list them."""
    few = [error for error in dict.fromkeys(cell_errors.errors) if error.column not in warned]  # folds share cells
    if few:
        columns = ", ".join(f"{column}: {count}" for column, count in CellErrors(errors=few).counts().items())
        progress.log(f"{count_noun(len(few), 'cell')} cannot be used and count as missing ({columns})")


def _plan(table: Table, given: Recipe, target: TargetLike) -> Recipe:
    """Complete the recipe `given` for the table, with the members that it names.

    Raises:
        RecipeError: a search does not support a task or the split column of the recipe, or it names a quality.
    """
    if given.quality is not None:
        raise RecipeError("quality", "a search tries the members itself: remove it, or name members to keep")
    plan = make_plan(table, given, as_targets(target), estimators=bool(given.members)).recipe
    _check_tasks(plan)
    if plan.data.split.column is not None:
        raise RecipeError(
            "data.split.column",
            "a search creates its own folds; set it to null and add the column to data.ignore_columns",
        )
    return plan


def _search_space(space: SpaceLike, given: Recipe, plan: Recipe, rows: int, seconds: float | None) -> SearchSpace:
    """The given search space, or the default space for the time limit and the number of rows."""
    if space is None:
        values: Mapping[str, Any] = default_space(given, plan, rows, seconds)
    else:
        values = space if isinstance(space, Mapping) else read_mapping(Path(space))
    return SearchSpace.read(values, base_recipe(given, plan, values))


def _baselines(
    models: FrozenFeatureBaselines, folder: Path, progress: Progress, deadline: float | None
) -> list[Candidate]:
    """The baselines, loaded from an earlier run of the search if it completed them.

    deadline: the time after which no further baseline is fitted
    """
    temporary = folder / "baselines"
    saved = (
        sorted(temporary.glob("*.json"), key=lambda path: int(path.stem)) if (temporary / "complete").is_file() else []
    )
    if saved:
        return [Candidate.load(temporary, path.stem) for path in saved]
    entries = run_baselines(models.folds, progress=progress, models=models, deadline=deadline)
    if models.is_short_of_time:
        progress.log("the time limit left no time for further baselines")
        return entries
    for number, one in enumerate(entries):
        one.save(temporary, str(number))
    (temporary / "complete").touch()
    return entries


def _leaderboard(study: Study, folds: Folds, baselines: Sequence[Candidate]) -> list[LeaderboardEntry]:
    """The leaderboard entries of all scored trials and the baselines.

    Raises:
        TrainingError: no trial is complete.
    """
    records = study.records()
    entries = [LeaderboardEntry(one, "baseline", {}) for one in baselines]
    for record in records:
        candidate = study.candidate(record)
        if candidate is not None:
            entries.append(LeaderboardEntry(candidate, record.status, record.overrides))
    if not any(entry.status == "complete" for entry in entries):
        reasons = {record.reason: record.name for record in reversed(records) if record.reason}
        listed = "\n".join(f"{name}: {reason}" for reason, name in reasons.items())
        raise TrainingError(f"none of {len(records)} trials was completed\n{listed}")
    return rank_entries(entries)


def _add_unimodal(
    entries: list[LeaderboardEntry], folds: Folds, folder: Path, deadline: float | None, progress: Progress
) -> list[LeaderboardEntry]:
    """Add unimodal networks and the best unimodal ensembles to the entries."""
    trials = [entry.candidate for entry in entries if entry.status == "complete"]
    with scratch_folder() as temporary:
        bench = TrialRunner(folds, temporary)
        networks = run_unimodal(trials, bench, folder / "unimodal", deadline=deadline, log=progress.log)
    baselines = [entry.candidate for entry in entries if entry.status == "baseline"]
    unimodal = [*networks, *best_unimodal([*baselines, *networks], folds)]
    return rank_entries([*entries, *(LeaderboardEntry(one, "baseline", {}) for one in unimodal)])


def _finish(
    folder: Path,
    models: FrozenFeatureBaselines,
    entries: list[LeaderboardEntry],
    study: Study,
    limits: SearchLimits,
    progress: Progress,
) -> TuningResult:
    """Compute intervals, ensemble, corrected scores and audit, and train the selected models on all rows."""
    folds = models.folds
    trials = [entry for entry in entries if entry.status == "complete"]
    complete = [entry.candidate for entry in trials]
    with progress.task("intervals and ensemble", None):
        scored = {entry.candidate.name: _scored(entry, folds) for entry in trials[:MAX_ROWS]}
        entries = [scored.get(entry.candidate.name, entry) for entry in entries]
        first = OBJECTIVES[study.objectives[0]]
        best = max(complete, key=first)
        selection = select_ensemble(complete, folds)
        corrected = correct_selection_bias(complete, folds, folds.recipe.seed)
    compared = [entry.candidate for entry in entries if entry.status != "pruned"]
    audited = audit_inputs(compared, folds, progress=progress, models=models)
    end = limits.after(1 - SCORE_FRACTION)
    model, ensemble = refit_best(folds, best, selection, out=folder, progress=progress, deadline=end)
    return TuningResult(
        folder=folder,
        folds=folds,
        model=model,
        ensemble=ensemble,
        best=next(entry.candidate for entry in entries if entry.candidate.name == best.name),
        entries=entries,
        failed=[record for record in study.records() if record.status in ("failed", "unfinished")],
        selection=selection,
        corrected=corrected,
        pareto_front=pareto_front(complete, study.objectives),
        audit=audited,
        objectives=study.objectives,
        seconds={},
    )


def _scored(entry: LeaderboardEntry, folds: Folds) -> LeaderboardEntry:
    return replace(entry, candidate=replace(entry.candidate, metrics=folds.metrics(entry.candidate.distributions)))


def _check_tasks(plan: Recipe) -> None:
    """Raise RecipeError for tasks and objectives that a search does not support."""
    if plan.objectives:
        raise RecipeError(
            "objectives",
            "a search does not support objectives; pretrain with them first and set training.init_from",
        )
    for name, spec in plan.outputs.items():
        task = None if spec.task is None else find("task", spec.task.name)
        if task is not None and (task.is_generative or task.is_embedding):
            what, instead = (f"{task.space}s", "cross-validate") if task.is_generative else ("embeddings", "fit")
            problem = f"a search does not support {what}; compare recipes with `{instead}`"
            raise RecipeError(f"outputs.{name}.task", problem)
