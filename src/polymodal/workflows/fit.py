"""`fit`: a table in, a trained, scored and saved model out. The story is told by `fit` and `run_plan`."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polymodal.core.errors import ArtifactError, PolymodalError, RecipeError
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.data.partition import Split, make_splits
from polymodal.data.table.table import Table
from polymodal.experiments.arguments import RecipeLike, Tables, as_recipe, as_targets, with_init_from, open_tables
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.plan import Plan, complete_schedule, make_plan
from polymodal.experiments.score import SplitScores, score_model
from polymodal.experiments.self_training import check_pseudo_labels, with_unlabeled
from polymodal.experiments.train import train_model
from polymodal.model.model import Model
from polymodal.model.run_record import Environment, CellErrorCounts, SplitRecord, RunRecord, Durations
from polymodal.model.run_summary import count_parameters
from polymodal.recipe.recipe import Recipe


def fit(
    data: Any,
    target: str | list[str] | None = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | None = None,
    valid: Any = None,
    test: Any = None,
    unlabeled: Any = None,
    start: Path | str | None = None,
    root: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Model:
    """Train a model on a table and score it.

    data, valid, test: tables as `data.table.concat.open_data` takes them, several as a list or a dict by name; without
        `valid` or `test`, rows of `data` are split off as `recipe.data.split` says
    unlabelled: rows without a target that are trained on as well, where the recipe says how (`training.pseudo_labels`,
        objectives, or a teacher); they may lack the target's column
    target: the column or columns to predict; may be left out if the recipe has `outputs`
    start: the directory of a saved model to go on from (recipe key `training.start`)
    recipe: a `Recipe`, a mapping, or a YAML or JSON file; what it leaves open is inferred from the data
    settings: `a.b=c` changes on top of the recipe
    root: the folder that media paths in cells start from (by default that of each table's file)
    out: the model directory to write; with `resume`, go on from its checkpoint (a
        complete run is only read back); with `overwrite`, replace it
    progress: show bars on standard error

    Returns the model; its `metrics` and `run` are what `metrics.json` and `run.json` hold.

    Raises:
        RecipeError, DataError, TrainingError: with what is wrong, where, and what to do.
    """
    chosen = with_init_from(as_recipe(recipe, settings), start)
    tables = open_tables(data, valid=valid, test=test, unlabeled=unlabeled, root=root)
    plan, splits = plan_run(chosen, tables, as_targets(target))
    return run_plan(plan, splits, RunFolder.of(out, resume, overwrite), Progress(progress))


def pretrain(
    data: Any,
    objectives: str | list[str] | None = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | None = None,
    valid: Any = None,
    test: Any = None,
    start: Path | str | None = None,
    root: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Model:
    """Train a model on what the inputs tell of each other and of themselves; the table needs no target.

    objectives: names of objectives in place of those of the recipe, which `settings` may change
        (`objectives.0.temperature=0.2`); where neither says any, several inputs are aligned (`contrastive`), and a lone
        one is masked and reconstructed (`masked`)
    recipe: as for `fit`; its outputs are left out and their columns are no inputs, so that one recipe serves both

    The other arguments, the result and the errors are those of `fit`. The model embeds rows (`Model.embed`), and `fit`
    goes on from it (recipe key `training.start`).
    """
    if objectives:
        named = [objectives] if isinstance(objectives, str) else objectives
        options = [find("objective", name, "objectives").Options() for name in named]
        recipe = as_recipe(recipe, None).model_copy(update={"objectives": options})
    chosen = with_init_from(as_recipe(recipe, settings), start)
    tables = open_tables(data, valid=valid, test=test, root=root)
    plan, splits = plan_run(_without_outputs(chosen, tables.train), tables, [], pretraining=True)
    return run_plan(plan, splits, RunFolder.of(out, resume, overwrite), Progress(progress))


def run_plan(plan: Plan, splits: dict[str, Split[Table]], out: RunFolder, progress: Progress) -> Model:
    """Prepare, train, score, write: the model of a complete plan."""
    out.make()
    if out.complete:
        return out.read(plan.recipe)
    begun = time.perf_counter()
    with scratch_folder() as folder:
        experiment = prepare_experiment(plan.recipe, splits, folder=folder, cache=media_cache_folder(), progress=progress)
        prepared = time.perf_counter()
        model = train_model(experiment, folder=out.path, resume=out.resume, progress=progress, log_parameters=True)
        scores = score_model(experiment, model, progress=progress)
        record = _complete_record(plan, experiment, model, scores)
        spent = Durations(model.run.seconds.training, round(prepared - begun, 3), round(time.perf_counter() - begun, 3))
        model.run = replace(record, seconds=spent)
        out.write(experiment, model, scores)
    return model


def plan_run(
    recipe: Recipe, tables: Tables, targets: list[str], *, pretraining: bool = False
) -> tuple[Plan, dict[str, Split[Table]]]:
    """The complete plan of a run, and its splits.

    Raises:
        RecipeError, DataError: as `fit`.
    """
    plan = make_plan(tables.train, recipe, targets, pretraining=pretraining)
    check_pseudo_labels(plan.recipe)
    splits = make_splits(plan.recipe, tables.train, tables.valid, tables.test)
    if tables.unlabeled is not None:
        splits = with_unlabeled(plan.recipe, splits, tables.train, tables.unlabeled)
    return Plan(complete_schedule(plan.recipe, len(splits["train"])), plan.roles), splits


def plan_fit(
    data: Any,
    target: str | list[str] | None = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | None = None,
    valid: Any = None,
    test: Any = None,
    root: Path | str | None = None,
) -> tuple[Plan, dict[str, Split[Table]]]:
    """What `fit` would do with these arguments: the complete plan, and the splits.

    Raises:
        RecipeError, DataError: as `fit`.
    """
    tables = open_tables(data, valid=valid, test=test, root=root)
    return plan_run(as_recipe(recipe, settings), tables, as_targets(target))


@dataclass(frozen=True)
class RunFolder:
    """The model directory of a run; without a path, nothing is written.

    resume: go on from the checkpoint that is there; overwrite: replace the model that is there
    """

    path: Path | None
    resume: bool = False
    overwrite: bool = False

    @classmethod
    def of(cls, out: Path | str | None, resume: bool, overwrite: bool) -> RunFolder:
        """Raises RecipeError: `resume` or `overwrite` without `out`."""
        if out is None and (resume or overwrite):
            raise RecipeError("", "resume and overwrite need the directory of the run (out)")
        return cls(None if out is None else Path(out), resume, overwrite)

    @property
    def complete(self) -> bool:
        """Whether the run that shall be resumed has come to its end."""
        there = self.resume and self.path is not None and (self.path / "manifest.json").is_file()
        return there and self.path is not None and not (self.path / "checkpoint.safetensors").is_file()

    def make(self) -> None:
        """Make or empty the folder.

        Raises:
            PolymodalError: it is in use and neither `resume` nor `overwrite` is asked for, or it does not look like a
                model directory.
        """
        folder = self.path
        if folder is None:
            return
        if folder.is_dir() and any(folder.iterdir()) and not self.resume:
            if not self.overwrite:
                raise PolymodalError(
                    f"{folder} is not empty: resume its run, overwrite it, or choose another directory"
                )
            if not any((folder / name).exists() for name in ("log.jsonl", "manifest.json", "checkpoint.safetensors")):
                raise PolymodalError(f"{folder} does not look like a model directory and is not overwritten")
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, recipe: Recipe) -> Model:
        """The model of a run that is complete.

        Raises:
            ArtifactError: it is of another recipe than the one that shall be resumed.
        """
        assert self.path is not None
        model = Model.load(self.path)
        chosen = {key: getattr(model.recipe.training, key) for key in ("precision", "threads")}  # by measurement
        training = recipe.training.model_copy(update=chosen)
        if model.recipe.to_yaml() != recipe.model_copy(update={"training": training}).to_yaml():
            raise ArtifactError(
                f"{self.path} holds a complete run of another recipe: overwrite it, or choose another directory"
            )
        return model

    def write(self, experiment: Experiment, model: Model, scores: dict[str, SplitScores]) -> None:
        """Write the model, every fault, the model card and the report; checkpoints go."""
        if self.path is None:
            return
        from polymodal.report.card import write_card  # templates and charts are needed by none but the end of a run
        from polymodal.report.report import write_report

        model.save(self.path)
        with (self.path / "cell_errors.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(experiment.cell_errors.lines())
        write_card(self.path, model)
        write_report(self.path, experiment, model, scores)
        for place in (self.path, self.path / "teacher", *self.path.glob("round-*")):
            (place / "checkpoint.safetensors").unlink(missing_ok=True)


def _without_outputs(recipe: Recipe, table: Table) -> Recipe:
    """The recipe without its outputs, whose columns are no inputs either."""
    targets = {column for spec in recipe.outputs.values() for column in spec.columns}
    ignored = [*recipe.data.ignore_columns, *sorted((targets - set(recipe.data.ignore_columns)) & set(table.columns))]
    return recipe.model_copy(update={"outputs": {}, "data": recipe.data.model_copy(update={"ignore_columns": ignored})})


def _complete_record(plan: Plan, experiment: Experiment, model: Model, scores: dict[str, SplitScores]) -> RunRecord:
    """The record of the training, with what is known of the plan, the tables, the network and the scores."""
    tasks, cell_errors = experiment.preparation.tasks, experiment.cell_errors
    return replace(
        model.run,
        environment=Environment.current(),
        roles=tuple(plan.roles),
        splits={name: SplitRecord(split.table.name, len(split)) for name, split in experiment.tables.items()},
        fingerprints=experiment.fingerprints(),
        parameters=count_parameters(model.network),
        inputs={name: modality.show() for name, modality in experiment.preparation.modalities.items()},
        task_notes={name: tuple(notes) for name, task in tasks.items() if (notes := task.notes)},
        shared_items=tuple(experiment.shared_between_splits()),
        cell_errors=CellErrorCounts(len(cell_errors.found), cell_errors.counts()),
        data_sets={name: one.data_sets for name, one in scores.items() if one.data_sets},
    )
