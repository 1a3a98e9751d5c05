"""`fit` and `pretrain`: train, score and save a model from a table."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from polymodal.core.argument_types import check_arguments
from polymodal.core.caller import warn_caller
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split, column_validates, make_splits
from polymodal.data.table.table import Table
from polymodal.distributed.start import start_world
from polymodal.experiments.arguments import (
    RecipeLike,
    Tables,
    TargetLike,
    as_recipe,
    as_targets,
    open_tables,
    with_effort,
    with_init_from,
    with_objectives,
    without_known_targets,
)
from polymodal.experiments.calibration import network_calibration
from polymodal.experiments.experiment import Experiment, prepare_together
from polymodal.experiments.live_options import check_live_options
from polymodal.experiments.plan import Plan, make_plan
from polymodal.experiments.row_facts import RowsWarning, row_facts
from polymodal.experiments.score import SplitScores, score_model
from polymodal.experiments.self_training import check_pseudo_labels, with_unlabeled
from polymodal.experiments.single_input import with_better_input
from polymodal.experiments.stored_inputs import StoredInputs
from polymodal.experiments.stored_rows import StoredRows
from polymodal.experiments.train import training_of
from polymodal.experiments.train_alternative import RunFiles, Trained, choose_alternative, members_deadline
from polymodal.model.model import Model
from polymodal.model.run_record import CellErrorCounts, Durations, Environment, ParameterCounts, RunRecord
from polymodal.model.run_summary import count_parameters
from polymodal.preparation.prepared_store import PreparedStore
from polymodal.preparation.usable_cells import warn_bad_columns
from polymodal.recipe.ensemble import Quality
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.run_context import RunContext
from polymodal.workflows.run_folder import CELL_ERRORS_FILE, RunData, RunFolder, sources, write_run

#: Part of a time limit after which the training should end, so that the scores and the report have time.
TRAINING_SHARE = 0.85


@check_arguments
def fit(
    data: Any,
    target: TargetLike = None,
    *,
    quality: Quality | None = None,
    time_limit: float | None = None,
    recipe: RecipeLike = None,
    settings: list[str] | Mapping[str, Any] | None = None,
    validation: Any = None,
    test: Any = None,
    unlabeled: Any = None,
    init_from: Path | str | None = None,
    prepared: Path | str | None = None,
    root: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Model:
    """Train a model on a table and score it.

    data: training table; any source of `data.table.concat.open_data`, or several as a list or a dict by name
    target: the column or columns to predict; not needed if the recipe has `outputs`
    quality: `fast`, `balanced` or `best`: which members are tried (recipe key `quality`); default: `balanced`,
        or a network alone if the recipe sets keys of a network
    time_limit: seconds for preparation, training and scores (recipe key `time_limit`); default: none
    recipe: a `Recipe`, a mapping, or a YAML or JSON file; unset options are inferred from the data
    settings: recipe keys to change: a list of texts `a.b=c`, or a mapping `{"a.b": c}`
    validation, test: validation and test table; default: rows of `data` are split off by `recipe.data.split`
    unlabeled: additional training rows without a target, for `training.pseudo_labels`, objectives, or a teacher; the
        target column may be missing
    init_from: directory of a saved model whose preparation and weights initialize the model (recipe key
        `training.init_from`)
    prepared: folder or address of the store of prepared rows that `prepare` has made of `data`, whose recipe is the
        default of `recipe`. Nothing is decoded
    root: base folder of media paths in cells; default: the folder of each table file
    out: model directory to write; only one process can write it
    resume: continue from the checkpoint in `out`; a complete run of the same recipe and data is only loaded
    overwrite: replace the model in `out` when the new one is complete
    progress: show progress bars on standard error

    Returns the model. Its `metrics` and `run` hold the content of `metrics.json` and `run.json`.

    Raises:
        RecipeError, DataError, TrainingError: the message states what is wrong, where, and what to do.
        OutputError: `out` is not empty and neither `resume` nor `overwrite` is set; it holds other files; another
            process writes it; or the disk is full.
        ArtifactError: the run to resume has another recipe or other data.

    A column of which more than 5 % of the cells cannot be used causes a `BadCellsWarning` before training.

    Example:
        >>> import polymodal
        >>> data = {"length": [1.0, 1.2, 5.0, 5.1] * 5, "kind": ["short", "short", "long", "long"] * 5}
        >>> settings = ["training.epochs=1", "evaluation.bootstrap_samples=0"]
        >>> model = polymodal.fit(data, "kind", settings=settings)
        >>> len(model.predict({"length": [1.1, 5.2]}))
        2
        >>> list(model.metrics["test"]["kind"])[0]
        'accuracy'
    """
    store = None if prepared is None else PreparedStore.open(prepared)
    if store is not None and recipe is None:
        recipe = store.preparation.recipe()
        target = without_known_targets(recipe, target)
    chosen = with_effort(with_init_from(as_recipe(recipe, settings), init_from), quality, time_limit)
    inputs = [data, validation, test, unlabeled, *sources(chosen)]
    with start_world() as world:
        folder = RunFolder.from_arguments(out, resume, overwrite, inputs, world)
        with world.in_turn():
            tables = open_tables(data, validation=validation, test=test, unlabeled=unlabeled, root=root)
        plan, splits = plan_run(
            chosen, tables, as_targets(target), writes_files=out is not None, is_stored=store is not None
        )
        stored = None if store is None else StoredRows.of(store, plan.recipe, splits)
        return run_plan(plan, splits, folder, Progress(progress and world.is_first), stored=stored)


@check_arguments
def pretrain(
    data: Any,
    objectives: str | list[str] | None = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | Mapping[str, Any] | None = None,
    validation: Any = None,
    test: Any = None,
    init_from: Path | str | None = None,
    prepared: Path | str | None = None,
    root: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Model:
    """Pretrain a model with self-supervised objectives. The table needs no target.

    objectives: names of objectives that replace those of the recipe; `settings` may change their options
        (`objectives.0.temperature=0.2`). Default: `contrastive` for several inputs, `masked_modeling` for one input.
    recipe: as for `fit`; its outputs are removed and their columns are not inputs, so `fit` and `pretrain` can share
        one recipe
    prepared: a store that `prepare` has made of `data` with `objectives`

    For other arguments, the result and the errors, see `fit`. The model can embed rows (`Model.embed`), and `fit` can
    start from it (argument `init_from`).

    Example:
        >>> import polymodal
        >>> data = {"caption": ["a red bird", "a blue fish"] * 10, "color": ["red", "blue"] * 10}
        >>> settings = ["training.epochs=1", "evaluation.bootstrap_samples=0"]
        >>> model = polymodal.pretrain(data, "contrastive", settings=settings)
        >>> len(model.embed({"caption": ["a blue bird"]}, input="caption"))
        1
    """
    store = None if prepared is None else PreparedStore.open(prepared)
    if store is not None and recipe is None:
        recipe = store.preparation.recipe()
    chosen = with_init_from(with_objectives(recipe, settings, objectives), init_from)
    with start_world() as world:
        folder = RunFolder.from_arguments(out, resume, overwrite, [data, validation, test, *sources(chosen)], world)
        with world.in_turn():
            tables = open_tables(data, validation=validation, test=test, root=root)
        plan, splits = plan_run(
            chosen, tables, [], pretraining=True, writes_files=out is not None, is_stored=store is not None
        )
        stored = None if store is None else StoredRows.of(store, plan.recipe, splits)
        return run_plan(plan, splits, folder, Progress(progress and world.is_first), stored=stored)


def run_plan(
    plan: Plan,
    splits: dict[str, Split[Table]],
    out: RunFolder,
    progress: Progress,
    *,
    deadline: float = math.inf,
    stored: StoredRows | StoredInputs | None = None,
) -> Model:
    """Prepare, train, score and write the model of a complete plan.

    With several processes, all do the same on the same rows, but train together, and process 0 writes.

    deadline: the time (`time.perf_counter()`) at which the training should end, beside the time limit of the recipe
    stored: the prepared rows or inputs of the training table. An alternative network, which reads other prepared rows,
        is then not trained
    """
    if stored is not None:
        plan = replace(plan, alternative=None)
    data, world = RunData.of(plan.recipe, splits), out.world
    world.check_same("recipe", plan.recipe.to_json())
    world.check_same("data", str(sorted(data.identity().items())))
    begun = time.perf_counter()
    with out.writing(data) as work, scratch_folder() as folder:
        if work.is_complete:
            return out.read([plan.recipe, *([plan.alternative] if plan.alternative else [])], data)
        experiment = prepare_together(
            plan.recipe,
            splits,
            folder=folder,
            cache=media_cache_folder(),
            progress=progress,
            world=world,
            stored=stored,
        )
        experiment.check_targets(("train", "validation", "test"))
        if world.is_first:
            warn_bad_columns(experiment.bad_columns, out.path and out.path / CELL_ERRORS_FILE)
        facts = row_facts(experiment)
        for note in facts.notes if world.is_first else ():
            warn_caller(note, RowsWarning)
        prepared = time.perf_counter()
        limit = plan.recipe.time_limit
        until = deadline if limit is None else min(deadline, begun + TRAINING_SHARE * limit)
        train = training_of(plan.recipe)
        model = train(
            experiment,
            folder=work.path,
            resume=out.resume,
            progress=progress,
            log_parameters=True,
            deadline=members_deadline(plan, until),
        )
        files, members = RunFiles(work.path, out.resume), Trained(experiment, model)
        trained = choose_alternative(plan, members, splits, folder, files, progress=progress, deadline=until)
        experiment, model = trained.experiment, trained.model
        if trained.is_alternative:
            plan = replace(plan, recipe=model.recipe, notes=())  # they are about the checkpoints of the members
        scored = score_model(experiment, model, progress=progress, deadline=until)
        plan, experiment, model, scored = with_better_input(plan, experiment, model, scored, progress)
        if model.ensemble is None:
            held_out = scored.splits["validation"]
            model.calibration = network_calibration(model.tasks, held_out.split, held_out.predictions)
        record = _complete_record(plan, experiment, model, scored.splits, data)
        record = replace(record, training_rows=facts.training_rows, data_notes=facts.notes)
        spent = Durations(model.run.seconds.training, round(prepared - begun, 3), round(time.perf_counter() - begun, 3))
        model.run = replace(record, seconds=spent)
        if work.path is not None:
            write_run(work.path, experiment, model, scored.splits)
    world.first(lambda: None)  # until process 0 has written
    return model


def plan_run(
    recipe: Recipe,
    tables: Tables,
    targets: list[str],
    *,
    pretraining: bool = False,
    writes_files: bool = True,
    estimators: bool = True,
    is_stored: bool = False,
) -> tuple[Plan, dict[str, Split[Table]]]:
    """The complete plan of a run, and its splits.

    pretraining: the outputs of the recipe are removed, and their columns are not inputs
    writes_files: whether the run has a model directory
    estimators: whether the model may have members other than a network
    is_stored: whether the training rows are read from a store of prepared rows, or written into one

    Raises:
        RecipeError, DataError: as `fit`.
    """
    own = _without_outputs(recipe, tables.train) if pretraining else recipe
    plan = make_plan(tables.train, own, targets, pretraining=pretraining, estimators=estimators)
    run = RunContext(
        plan.recipe,
        recipe,
        workflow="pretrain" if pretraining else "fit",
        data_sets=len(tables.train.data_sets) or 1,
        has_validation=tables.validation is not None,
        has_test=tables.test is not None,
        column_validates=column_validates(plan.recipe, tables.train),
        writes_files=writes_files,
        is_stored=is_stored,
    )
    check_live_options(run)
    check_pseudo_labels(plan.recipe)
    splits = make_splits(plan.recipe, tables.train, tables.validation, tables.test)
    if tables.unlabeled is not None:
        splits = with_unlabeled(plan.recipe, splits, tables.train, tables.unlabeled)
    return plan.with_schedule(len(splits["train"])), splits


@check_arguments
def plan_fit(
    data: Any,
    target: TargetLike = None,
    *,
    quality: Quality | None = None,
    recipe: RecipeLike = None,
    settings: list[str] | Mapping[str, Any] | None = None,
    validation: Any = None,
    test: Any = None,
    root: Path | str | None = None,
) -> tuple[Plan, dict[str, Split[Table]]]:
    """The complete plan and the splits that `fit` would use with these arguments.

    Raises:
        RecipeError, DataError: as `fit`.
    """
    tables = open_tables(data, validation=validation, test=test, root=root)
    return plan_run(with_effort(as_recipe(recipe, settings), quality), tables, as_targets(target))


def _without_outputs(recipe: Recipe, table: Table) -> Recipe:
    """The recipe without its outputs. The columns of the outputs are ignored."""
    targets = {column for spec in recipe.outputs.values() for column in spec.columns}
    ignored = [*recipe.data.ignore_columns, *sorted((targets - set(recipe.data.ignore_columns)) & set(table.columns))]
    return recipe.model_copy(update={"outputs": {}, "data": recipe.data.model_copy(update={"ignore_columns": ignored})})


def _complete_record(
    plan: Plan, experiment: Experiment, model: Model, scores: dict[str, SplitScores], data: RunData
) -> RunRecord:
    """The training record, completed with the plan, the tables, the network and the scores."""
    tasks, cell_errors = experiment.preparation.tasks, experiment.cell_errors
    return replace(
        model.run,
        environment=Environment.current(),
        roles=tuple(plan.roles),
        splits=data.splits,
        fingerprints={split.table: split.fingerprint for split in data.splits.values()},
        parameters=count_parameters(model.network) if model.has_network else ParameterCounts(),
        notices=(*plan.notes, *model.run.notices),
        inputs={name: modality.describe() for name, modality in experiment.preparation.modalities.items()},
        task_notes={name: tuple(notes) for name, task in tasks.items() if (notes := task.notes)},
        shared_items=tuple(experiment.shared_between_splits()),
        cell_errors=CellErrorCounts(len(cell_errors.errors), cell_errors.counts(), experiment.bad_columns),
        data_sets={name: split.data_sets for name, split in scores.items() if split.data_sets},
    )
