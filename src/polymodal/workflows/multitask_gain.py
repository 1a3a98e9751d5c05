"""Gain of multitask training: one model for all outputs against one model for each output."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.checkpoint.directory_kinds import MULTITASK_GAIN
from polymodal.checkpoint.model_directory import write_json
from polymodal.checkpoint.output_directory import OutputDirectory
from polymodal.checkpoint.output_file import OutputFile, paths_in
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import DataError, RecipeError
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.evaluation.targets import OutputTargets
from polymodal.experiments.arguments import RecipeLike, TargetLike, as_recipe, as_targets, open_tables
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.train import train_model
from polymodal.model.model import Model
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.base import Task
from polymodal.workflows.fit import plan_run
from polymodal.workflows.model_comparison import compare_output

FILE = "multitask_gain.json"


@dataclass(frozen=True)
class MultitaskGain:
    """One multitask model against a single-task model for each output.

    split_name: the split on which the models were scored: test, or validation without a test split
    outputs: by output and metric: the scores `multitask` and `single_task`, `difference` = multitask - single_task with
        its interval `low` to `high`, the `p_value` of the paired bootstrap, the exact `mcnemar` p-value (accuracy
        without groups; else None), and `greater_is_better`; undefined numbers are None
    multitask, single_task: `parameters`, `steps`, `epochs` and `seconds` of training: of the multitask model, and of
        each single-task model by output
    rows: rows of each split, and rows with the target of each output
    recipe: the complete recipe of the multitask model
    """

    split_name: str
    outputs: dict[str, dict[str, dict[str, Any]]]
    multitask: dict[str, Any]
    single_task: dict[str, dict[str, Any]]
    rows: dict[str, Any]
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        return {
            "split": self.split_name,
            "outputs": self.outputs,
            "multitask": self.multitask,
            "single_task": self.single_task,
            "rows": self.rows,
            "recipe": self.recipe.to_dict(),
        }

    def save(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write `multitask_gain.json` into `folder`.

        overwrite: replace an existing file

        Raises:
            OutputError: the file exists and `overwrite` is not set, or cannot be written.
        """
        path = Path(folder) / FILE
        OutputFile(path, overwrite).check()
        write_json(path, self.to_dict())
        return path


@check_arguments
def multitask_gain(
    data: Any,
    target: TargetLike = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | Mapping[str, Any] | None = None,
    validation: Any = None,
    test: Any = None,
    root: Path | str | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> MultitaskGain:
    """Train one model for all outputs and one model for each output, and compare them on the same rows.

    The models are networks, whose tasks share weights (estimators are fitted for each output by itself). All have the
    same recipe, prepared data, splits, seed and number of epochs. A single-task model is trained on the training rows
    with its target, so it takes fewer steps if targets are missing. Its best epoch is selected by its output only; the
    best epoch of the multitask model is selected by the mean over outputs.

    The intervals cover the sampling of test rows, not the randomness of training: repeat with other values of `seed`
    before you rely on a small difference.

    data, target, recipe, settings, validation, test, root, progress: as in `fit`
    out: folder for `multitask_gain.json` and the models, in `multitask`, `single-task-1`, `single-task-2`, ...
    overwrite: replace the result in `out` when the new one is complete

    Raises:
        RecipeError, DataError, TrainingError: as `fit`; also for a recipe with fewer than two outputs, or with a
        teacher.
        OutputError: `out` is not empty and `overwrite` is not set; it holds other files; or another process writes it.

    Example:
        >>> import polymodal
        >>> data = {"length": [1, 2, 5, 6] * 5, "kind": ["a", "a", "b", "b"] * 5, "price": [1, 2, 4, 5] * 5}
        >>> settings = ["training.epochs=1", "evaluation.bootstrap_samples=0", "evaluation.unimodal_scores=none"]
        >>> result = polymodal.multitask_gain(data, ["kind", "price"], settings=settings)
        >>> sorted(result.outputs)
        ['kind', 'price']
    """
    directory = None
    if out is not None:
        directory = OutputDirectory(Path(out), MULTITASK_GAIN, overwrite, inputs=paths_in(data, validation, test))
        directory.check()
    shown = Progress(progress)
    tables = open_tables(data, validation=validation, test=test, root=root)
    plan, parts = plan_run(as_recipe(recipe, settings), tables, as_targets(target), estimators=False)
    if len(plan.recipe.outputs) < 2:
        raise RecipeError("outputs", "the multitask gain needs two or more outputs")
    if plan.recipe.privileged or plan.recipe.training.distillation.teacher is not None:
        raise RecipeError("training.distillation", "the multitask gain does not support a teacher: remove it")
    with nullcontext() if directory is None else directory.writing() as work, scratch_folder() as folder:
        experiment = prepare_experiment(plan.recipe, parts, folder=folder, cache=media_cache_folder(), progress=shown)
        return _compare_models(experiment, work, shown)


def _compare_models(full_experiment: Experiment, work: Path | None, progress: Progress) -> MultitaskGain:
    """Train the models, save them into `work`, and compare them."""
    names = list(full_experiment.recipe.outputs)
    experiments = {name: _single_task_experiment(full_experiment, name) for name in names}
    multitask_model = train_model(full_experiment, progress=progress, title="train all outputs", log_parameters=True)
    split_name = "test" if "test" in full_experiment.splits else "validation"
    predicted = _distributions(full_experiment, multitask_model, split_name)
    found, costs = {}, {}
    for number, (name, experiment) in enumerate(experiments.items()):
        model = train_model(experiment, progress=progress, title=f"train {name} only")
        single_task = _distributions(experiment, model, split_name)[name]
        found[name] = _compared(full_experiment, name, split_name, predicted[name], single_task)
        costs[name] = _cost(model)
        if work is not None:
            model.save(work / f"single-task-{number + 1}")
    known = {name: {one: len(split.rows) for one, split in experiments[name].splits.items()} for name in names}
    rows = {"splits": {one: len(split.rows) for one, split in full_experiment.splits.items()}, "with_target": known}
    result = MultitaskGain(split_name, found, _cost(multitask_model), costs, rows, multitask_model.recipe)
    if work is not None:
        multitask_model.save(work / "multitask")
        result.save(work)
    return result


def _single_task_experiment(full_experiment: Experiment, name: str) -> Experiment:
    """The experiment of one output: its recipe, and the rows with its target."""
    recipe = full_experiment.recipe
    others = {f"outputs.{other}" for other in recipe.outputs} - {f"outputs.{name}"}
    parts = {path: value for path, value in recipe.training.param_groups.items() if path not in others}
    training = recipe.training.model_copy(update={"param_groups": parts, "loss_balancing": "fixed"})
    recipe = recipe.model_copy(update={"outputs": {name: recipe.outputs[name]}, "training": training})
    preparation = Preparation(recipe)
    preparation.modalities = full_experiment.preparation.modalities
    preparation.tasks = {name: full_experiment.preparation.tasks[name]}
    splits = {
        split_name: _with_target(split, name, preparation.tasks[name])
        for split_name, split in full_experiment.splits.items()
    }
    for split_name, split in splits.items():
        if not len(split.rows):
            raise DataError(f"no row of the {split_name} split has this target", column=recipe.outputs[name].columns[0])
    return replace(full_experiment, preparation=preparation, splits=splits)


def _with_target(split: Split[PreparedTable], name: str, task: Task) -> Split[PreparedTable]:
    """The rows of a split that can be scored for one output, and only its target."""
    prepared = split.table
    prompts = {output: found for output, found in prepared.prompts.items() if output == name}
    bare = replace(prepared, targets={name: prepared.targets[name]}, prompts=prompts)
    return Split(bare, split.rows[task.scored_rows(*prepared.targets[name])[split.rows]])


def _distributions(experiment: Experiment, model: Model, split_name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The rows of a split, and the distributions `[rows, k]` of a model for them, by output."""
    split = experiment.feature_splits(model.network, Progress(False))[split_name]
    predictions = model.predictor.predict(split)
    tasks = experiment.preparation.tasks
    return {name: (split.rows, tasks[name].distribution(one.values)) for name, one in predictions.items()}


def _compared(
    full_experiment: Experiment,
    name: str,
    split_name: str,
    multitask: tuple[np.ndarray, np.ndarray],
    single_task: tuple[np.ndarray, np.ndarray],
) -> dict[str, dict[str, Any]]:
    """Every metric of one output on the rows with its target."""
    rows, single_distribution = single_task
    full_split, recipe = full_experiment.splits[split_name], full_experiment.recipe
    task = full_experiment.preparation.tasks[name]
    kept = np.isin(multitask[0], rows)
    found = compare_output(
        task,
        multitask[1][kept],
        single_distribution,
        OutputTargets.of(Split(full_split.table, rows), name),
        recipe.evaluation,
        seed=recipe.seed,
    )
    counts = OutputTargets.of(full_split, name).counts(task).model_dump()
    return {
        metric: {"multitask": one["a"], "single_task": one["b"]}
        | {k: v for k, v in one.items() if k not in ("a", "b")}
        | counts
        for metric, one in found.items()
    }


def _cost(model: Model) -> dict[str, Any]:
    """The training cost of a model."""
    return {
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "steps": model.run.steps,
        "epochs": len(model.run.history),
        "seconds": model.run.seconds.training,
    }
