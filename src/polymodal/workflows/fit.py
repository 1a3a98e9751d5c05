"""`fit`: a table in, a trained, scored and saved model out."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from polymodal._version import __version__
from polymodal.core.errors import ArtefactError, DataError, PolymodalError, RecipeError
from polymodal.core.paths import cache_folder, media_folder, scratch
from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.data.partition import Part, make_parts
from polymodal.data.table.concat import Joined, open_data
from polymodal.data.table.table import Table
from polymodal.experiments.experiment import (
    Experiment,
    fingerprints,
    prepare_experiment,
    score_model,
    shared_between_parts,
    train_model,
)
from polymodal.experiments.plan import Plan, complete_schedule, make_plan
from polymodal.experiments.self_training import check_pseudo_labels, with_unlabelled
from polymodal.model.model import Model
from polymodal.recipe.recipe import Recipe

RecipeLike = Recipe | dict[str, Any] | str | Path | None


def fit(
    data: Any,
    target: str | list[str] | None = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | None = None,
    valid: Any = None,
    test: Any = None,
    unlabelled: Any = None,
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
    recipe, settings = from_start(as_recipe(recipe, settings), start), None
    plan, parts = plan_fit(
        data, target, recipe=recipe, settings=settings, valid=valid, test=test, unlabelled=unlabelled, root=root
    )
    return _run(plan, parts, out, resume=resume, overwrite=overwrite, progress=progress)


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
    chosen = from_start(as_recipe(recipe, settings), start)
    table = as_table(data, root)
    targets = {column for spec in chosen.outputs.values() for column in spec.columns}
    there = set() if table is None else (targets - set(chosen.data.ignore)) & set(table.columns)
    ignored = [*chosen.data.ignore, *sorted(there)]
    chosen = chosen.model_copy(update={"outputs": {}, "data": chosen.data.model_copy(update={"ignore": ignored})})
    plan, parts = plan_fit(table, recipe=chosen, valid=valid, test=test, root=root, pretraining=True)
    return _run(plan, parts, out, resume=resume, overwrite=overwrite, progress=progress)


def _run(
    plan: Plan, parts: dict[str, Part], out: Path | str | None, *, resume: bool, overwrite: bool, progress: bool
) -> Model:
    folder = _run_folder(out, resume=resume, overwrite=overwrite)
    if resume and folder and (folder / "manifest.json").is_file() and not (folder / "checkpoint.safetensors").is_file():
        return _complete(folder, plan.recipe)
    return run_plan(plan, parts, folder=folder, resume=resume, progress=Progress(progress))


def _complete(folder: Path, recipe: Recipe) -> Model:
    """The model of a run that is complete.

    Raises:
        ArtefactError: it is of another recipe than the one that shall be resumed.
    """
    model = Model.load(folder)
    chosen = {key: getattr(model.recipe.training, key) for key in ("precision", "threads")}  # by measurement
    training = recipe.training.model_copy(update=chosen)
    if model.recipe.to_yaml() != recipe.model_copy(update={"training": training}).to_yaml():
        raise ArtefactError(
            f"{folder} holds a complete run of another recipe: overwrite it, or choose another directory"
        )
    return model


def plan_fit(
    data: Any,
    target: str | list[str] | None = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | None = None,
    valid: Any = None,
    test: Any = None,
    unlabelled: Any = None,
    root: Path | str | None = None,
    pretraining: bool = False,
) -> tuple[Plan, dict[str, Part]]:
    """What `fit` (or `pretrain`) would do with these arguments: the complete plan, and the rows of each part.

    Raises:
        RecipeError, DataError: as `fit`.
    """
    chosen = as_recipe(recipe, settings)
    tables = {name: as_table(source, root) for name, source in (("train", data), ("valid", valid), ("test", test))}
    table = tables["train"]
    if table is None:
        raise DataError("there is no data to train on")
    if isinstance(table, Joined):  # a part may lack what only some of the data sets have
        for name, part in tables.items():
            if part is not None and part is not table:
                tables[name] = (part if isinstance(part, Joined) else Joined({part.name: part})).like(table)
    targets = [target] if isinstance(target, str) else list(target or [])
    plan = make_plan(table, chosen, targets, pretraining=pretraining)
    check_pseudo_labels(plan.recipe)
    parts = make_parts(plan.recipe, table, tables["valid"], tables["test"])
    more = as_table(unlabelled, root)
    if more is not None:
        parts = with_unlabelled(plan.recipe, parts, table, more)
    return Plan(complete_schedule(plan.recipe, len(parts["train"].rows)), plan.roles), parts


def run_plan(
    plan: Plan, parts: dict[str, Part], *, folder: Path | None, resume: bool = False, progress: Progress
) -> Model:
    """Train, score and (with `folder`) save the model of a complete plan."""
    begun = time.perf_counter()
    memory = cache_folder() / "machine.json"
    with scratch() as place:
        experiment = prepare_experiment(plan.recipe, parts, folder=place, cache=media_folder(), progress=progress)
        prepared = time.perf_counter()
        model = train_model(experiment, folder=folder, memory=memory, resume=resume, progress=progress, tell=True)
        score_model(experiment, model, memory=memory, progress=progress)
        model.run |= _facts(plan, experiment, model)
        model.run["seconds"] |= {
            "preparation": round(prepared - begun, 3),
            "total": round(time.perf_counter() - begun, 3),
        }
        if folder is not None:
            _write_run(folder, experiment, model)
    return model


def _facts(plan: Plan, experiment: Experiment, model: Model) -> dict[str, Any]:
    """What `run.json` records beside the training history."""
    tasks = experiment.preparation.tasks
    return {
        "polymodal": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "roles": [asdict(role) for role in plan.roles],
        "parts": {name: {"table": part.table.name, "rows": len(part.rows)} for name, part in experiment.parts.items()},
        "fingerprints": fingerprints(experiment.parts),
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "trainable": sum(one.numel() for one in model.network.parameters() if one.requires_grad),
        "inputs": {name: modality.show() for name, modality in experiment.preparation.modalities.items()},
        "task_notes": {name: notes for name, task in tasks.items() if (notes := getattr(task, "notes", []))},
        "shared_items": shared_between_parts(experiment),
        "faults": {"count": len(experiment.faults.found), "by_column": experiment.faults.counts()},
    }


def _write_run(folder: Path, experiment: Experiment, model: Model) -> None:
    """Write the model directory: the model, every fault, the model card and the report."""
    from polymodal.report.card import write_card
    from polymodal.report.report import write_report

    model.save(folder)
    with (folder / "faults.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(experiment.faults.lines())
    write_card(folder, model)
    write_report(folder, experiment, model)
    for place in (folder, folder / "teacher", *folder.glob("round-*")):
        (place / "checkpoint.safetensors").unlink(missing_ok=True)


def as_recipe(recipe: RecipeLike, settings: list[str] | None) -> Recipe:
    """The recipe of any form in which it may be given, with `settings` on top."""
    if isinstance(recipe, Recipe):
        return Recipe.read(recipe.given(), settings) if settings else recipe
    return Recipe.read(recipe if recipe is not None else {}, settings)


def from_start(recipe: Recipe, start: Path | str | None) -> Recipe:
    """The recipe, going on from the model in `start` where there is one."""
    if start is None:
        return recipe
    training = recipe.training.model_copy(update={"start": str(start)})
    return recipe.model_copy(update={"training": training})


def as_table(source: Any, root: Path | str | None) -> Table | None:
    """The table of any form in which it may be given; None stays None."""
    if source is None or isinstance(source, Table):
        return source
    return open_data(source, root=Path(root) if root is not None else None, cache=cache_folder() / "tables")


def _run_folder(out: Path | str | None, *, resume: bool, overwrite: bool) -> Path | None:
    """The folder of the run, made or emptied.

    Raises:
        RecipeError: `resume` or `overwrite` without `out`.
        PolymodalError: the folder is in use and neither is asked for, or does not look like a model directory.
    """
    if out is None:
        if resume or overwrite:
            raise RecipeError("", "resume and overwrite need the directory of the run (out)")
        return None
    folder = Path(out)
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        if not overwrite:
            raise PolymodalError(f"{folder} is not empty: resume its run, overwrite it, or choose another directory")
        if not any((folder / name).exists() for name in ("log.jsonl", "manifest.json", "checkpoint.safetensors")):
            raise PolymodalError(f"{folder} does not look like a model directory and is not overwritten")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
