"""What does each output gain or lose by sharing one body with the others?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.checkpoint.model_directory import write_json
from polymodal.core.errors import DataError, PolymodalError, RecipeError
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.experiments.arguments import RecipeLike
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.train import train_model
from polymodal.model.model import Model
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.workflows.fit import plan_fit
from polymodal.workflows.model_comparison import compare_output

FILE = "multitask_gain.json"


@dataclass(frozen=True)
class MultitaskGain:
    """One body for all outputs against a model for each.

    part: the rows on which both were scored, `test` (or `valid` where there is no test part)
    outputs: by output and metric: the scores `shared` and `alone`, `difference` = shared - alone with its interval
        `low` to `high`, `p_value` of the paired bootstrap, the exact `mcnemar` p-value (accuracy without groups; else
        None), and `greater_is_better`; undefined values are None
    shared, alone: `parameters`, `steps`, `epochs` and `seconds` of training: of the one body, and of each output's own
        model, by output
    rows: rows of each part; rows with each output's target, by output
    recipe: the complete recipe of the one body
    """

    part: str
    outputs: dict[str, dict[str, dict[str, Any]]]
    shared: dict[str, Any]
    alone: dict[str, dict[str, Any]]
    rows: dict[str, Any]
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "part": self.part,
            "outputs": self.outputs,
            "multitask": self.shared,
            "single_task": self.alone,
            "rows": self.rows,
            "recipe": self.recipe.to_dict(),
        }

    def save(self, folder: Path | str) -> Path:
        """Write `multitask_gain.json` into `folder`."""
        path = Path(folder) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_dict())
        return path


def multitask_gain(
    data: Any,
    target: str | list[str] | None = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | None = None,
    valid: Any = None,
    test: Any = None,
    root: Path | str | None = None,
    out: Path | str | None = None,
    progress: bool = False,
) -> MultitaskGain:
    """Train one model for all outputs, and a model for each output alone, and compare them on the same rows.

    All have the same recipe, prepared data, splits, seed and number of epochs. A model of one output is trained on the
    training rows that have its target, so where targets have gaps it takes fewer steps; and its epoch is chosen by
    that output alone, where the one body is chosen by the mean over outputs.

    data, target, recipe, settings, valid, test, root, progress: as in `fit`
    out: the folder in which `multitask_gain.json` and the models are written, in `shared` and `single-task-1`, `single-task-2` ...

    The intervals cover the choice of test rows, not the luck of a training run: repeat with other `seed`s before a
    small difference is believed.

    Raises:
        RecipeError, DataError, TrainingError: as `fit`; also for a recipe of fewer than two outputs, and for one with a
            teacher.
        PolymodalError: `out` holds such a table already.
    """
    if out is not None and (Path(out) / FILE).exists():
        raise PolymodalError(f"{Path(out) / FILE} is there already: choose another directory or delete it")
    shown = Progress(progress)
    plan, parts = plan_fit(data, target, recipe=recipe, settings=settings, valid=valid, test=test, root=root)
    names = list(plan.recipe.outputs)
    if len(names) < 2:
        raise RecipeError("outputs", "what is gained by sharing shows with two outputs or more")
    if plan.recipe.privileged or plan.recipe.training.distillation.teacher is not None:
        raise RecipeError("training.distillation", "the gain of sharing is measured without a teacher")
    with scratch_folder() as place:
        together = prepare_experiment(plan.recipe, parts, folder=place, cache=media_cache_folder(), progress=shown)
        experiments = {name: _alone(together, name) for name in names}
        body = train_model(together, progress=shown, title="train all outputs", log_parameters=True)
        part = "test" if "test" in together.splits else "valid"
        predicted = _distributions(together, body, part)
        found, costs = {}, {}
        for number, (name, experiment) in enumerate(experiments.items()):
            model = train_model(experiment, progress=shown, title=f"train {name} alone")
            single = _distributions(experiment, model, part)[name]
            found[name] = _compared(together, name, part, predicted[name], single)
            costs[name] = _cost(model)
            if out is not None:
                model.save(Path(out) / f"single-task-{number + 1}")
    known = {name: {one: len(split.rows) for one, split in experiments[name].splits.items()} for name in names}
    rows = {"parts": {one: len(split.rows) for one, split in together.splits.items()}, "with_target": known}
    result = MultitaskGain(part, found, _cost(body), costs, rows, body.recipe)
    if out is not None:
        body.save(Path(out) / "multitask")
        result.save(out)
    return result


def _alone(together: Experiment, name: str) -> Experiment:
    """The experiment of one output: its recipe, and the rows that have its target."""
    recipe = together.recipe
    others = {f"outputs.{other}" for other in recipe.outputs} - {f"outputs.{name}"}
    parts = {path: value for path, value in recipe.training.param_groups.items() if path not in others}
    training = recipe.training.model_copy(update={"param_groups": parts, "loss_balancing": "fixed"})
    recipe = recipe.model_copy(update={"outputs": {name: recipe.outputs[name]}, "training": training})
    preparation = Preparation(recipe)
    preparation.modalities = together.preparation.modalities
    preparation.tasks = {name: together.preparation.tasks[name]}
    splits = {part: _with_target(split, name) for part, split in together.splits.items()}
    for part, split in splits.items():
        if not len(split.rows):
            raise DataError(f"no row of the {part} part has this target", column=recipe.outputs[name].columns[0])
    return replace(together, preparation=preparation, splits=splits)


def _with_target(split: Split[PreparedTable], name: str) -> Split[PreparedTable]:
    """The rows of a part that have the target of one output, with that target alone."""
    prepared = split.table
    prompts = {output: found for output, found in prepared.prompts.items() if output == name}
    bare = replace(prepared, targets={name: prepared.targets[name]}, prompts=prompts)
    return Split(bare, split.rows[prepared.targets[name][1][split.rows]])


def _distributions(experiment: Experiment, model: Model, part: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The rows of a part, and what a model decides for them `[rows, k]`, by output."""
    split = experiment.feature_splits(model.network, Progress(False))[part]
    predictions = model.predictor.predict(split)
    tasks = experiment.preparation.tasks
    return {name: (split.rows, tasks[name].distribution(one.values)) for name, one in predictions.items()}


def _compared(
    together: Experiment,
    name: str,
    part: str,
    shared: tuple[np.ndarray, np.ndarray],
    alone: tuple[np.ndarray, np.ndarray],
) -> dict[str, dict[str, Any]]:
    """Every metric of one output on the rows that have its target."""
    rows, single = alone
    prepared, recipe = together.splits[part].table, together.recipe
    kept = np.isin(shared[0], rows)
    value, present = prepared.targets[name]
    found = compare_output(
        together.preparation.tasks[name],
        shared[1][kept],
        single,
        (value[rows], present[rows]),
        None if prepared.weight is None else prepared.weight[rows],
        recipe.evaluation,
        seed=recipe.seed,
        groups=None if prepared.groups is None else prepared.groups[shared[0]][kept],
    )
    return {
        metric: {"multitask": one["a"], "single_task": one["b"]} | {k: v for k, v in one.items() if k not in ("a", "b")}
        for metric, one in found.items()
    }


def _cost(model: Model) -> dict[str, Any]:
    """What a model took."""
    return {
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "steps": model.run.steps,
        "epochs": len(model.run.history),
        "seconds": model.run.seconds.training,
    }
