"""Cross-validation: each row is scored by a model that was not trained on it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.checkpoint.model_directory import write_json
from polymodal.checkpoint.output_file import OutputFile
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import DataError, RecipeError
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.data.partition import Split, make_fold_splits
from polymodal.data.table.cell_errors import CellError, CellErrors
from polymodal.data.table.table import Table
from polymodal.evaluation.evaluate import Scores
from polymodal.evaluation.ground_truth import GroundTruth
from polymodal.experiments.arguments import RecipeLike, TargetLike, as_recipe, as_table, as_targets
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.live_options import check_live_options
from polymodal.experiments.plan import Plan, make_plan
from polymodal.experiments.score import predictable_splits
from polymodal.experiments.train import train_model, train_unimodal
from polymodal.experiments.train_alternative import RunFiles, Trained, choose_alternative
from polymodal.inference.predictions import Predictions
from polymodal.model.model import Model
from polymodal.preparation.preparation import Preparation
from polymodal.preparation.usable_cells import bad_column_sentences, warn_bad_columns
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.run_context import RunContext
from polymodal.workflows.model_comparison import compare_output

FILE = "cross_validation.json"

#: Distributions `[rows, k]` by output, rows in the order of the table.
Distributions = dict[str, np.ndarray]


@dataclass(frozen=True)
class CrossValidation:
    """The scores of one recipe over folds.

    recipe: the complete recipe; unset epochs, batch size and patience depend on the number of rows of each fold
    folds: by fold, the number of rows of each split, seconds, and `scores[output][metric]`: `value`, `baseline` and, if
        unimodal scores are enabled, `unimodal`
    scores: over all rows, each predicted by the model of its fold: `value` with the bootstrap interval `low` to `high`
        (the cluster bootstrap if the recipe has groups), `baseline`, `unimodal`, and the mean and standard deviation
        over folds, `fold_mean` and `fold_std`. The interval covers the sampling of rows, not the randomness of
        training.
    comparison: by output, the full model against the best unimodal model (`workflows.model_comparison`: `a` is the full
        model, `b` the model of `best_input`); empty unless `evaluation.unimodal_scores` is `train` and there are
        several inputs
    classes, distributions: class names and out-of-fold distributions `[rows, k]` by output
    unimodal: the out-of-fold distributions from each single input, by input
    fold_of: the fold of each row, `[rows]`
    cell_errors: unusable cells, each once
    """

    recipe: Recipe
    folds: list[dict[str, Any]]
    scores: Scores
    comparison: dict[str, Any]
    classes: dict[str, list[str]]
    distributions: Distributions
    unimodal: dict[str, Distributions]
    fold_of: np.ndarray
    cell_errors: CellErrors = field(default_factory=CellErrors)

    def to_dict(self) -> dict[str, Any]:
        """All fields except the distributions, JSON-ready."""
        return {
            "recipe": self.recipe.to_dict(),
            "rows": len(self.fold_of),
            "folds": self.folds,
            "scores": self.scores,
            "comparison": self.comparison,
            "classes": self.classes,
            "cell_errors": {"count": len(self.cell_errors.errors), "by_column": self.cell_errors.counts()},
        }

    def save(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write `cross_validation.json` into `folder`.

        overwrite: replace an existing file

        Raises:
            OutputError: the file exists and `overwrite` is not set, or cannot be written.
        """
        path = Path(folder) / FILE
        OutputFile(path, overwrite).check()
        write_json(path, self.to_dict())
        return path


@check_arguments
def cross_validate(
    data: Any,
    target: TargetLike = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | Mapping[str, Any] | None = None,
    folds: int = 5,
    root: Path | str | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> CrossValidation:
    """Train and score a recipe on several folds. Each row is scored by a model that was not trained on it.

    Folds are grouped and stratified by `data.split`. A fraction `data.split.validation_size` of the other rows is the
    validation split of a fold. Vocabularies and statistics are fitted on the training rows of each fold. With
    `evaluation.unimodal_scores: train`, a model of each single input is trained on the same folds.

    data, target, recipe, settings, root, progress: as in `fit`
    folds: number of folds
    out: folder for `cross_validation.json`
    overwrite: replace this file

    Raises:
        RecipeError, DataError, TrainingError: as `fit`; also for more folds than rows or groups, and for a recipe with
            `data.split.column`.
        OutputError: `out` already holds a cross-validation and `overwrite` is not set.

    Example:
        >>> import polymodal
        >>> data = {"length": [1.0, 1.2, 5.0, 5.1] * 6, "kind": ["short", "short", "long", "long"] * 6}
        >>> settings = ["training.epochs=1", "evaluation.bootstrap_samples=0"]
        >>> result = polymodal.cross_validate(data, "kind", settings=settings, folds=2)
        >>> [fold["rows"]["test"] for fold in result.folds]
        [12, 12]
        >>> 0 <= result.scores["kind"]["accuracy"]["value"] <= 1
        True
    """
    if out is not None:
        OutputFile(Path(out) / FILE, overwrite).check()
    shown = Progress(progress)
    table = as_table(data, root)
    if table is None:
        raise DataError("no training data was given")
    given = as_recipe(recipe, settings)
    plan = make_plan(table, given, as_targets(target), estimators=True)
    check_live_options(
        RunContext(plan.recipe, given, "cross_validate", data_sets=len(table.data_sets) or 1, writes_files=False)
    )
    if not plan.recipe.outputs:
        raise RecipeError("outputs", "cross-validation needs a target: set one, or use `pretrain`")
    if plan.recipe.data.split.column is not None:
        raise RecipeError(
            "data.split.column",
            "cross-validation draws its own splits: set it to null and add the column to data.ignore_columns",
        )
    for name, spec in plan.recipe.outputs.items():
        if spec.task is not None and find("task", spec.task.name).is_embedding:
            problem = (
                "cross-validation does not support embedding outputs, because the spaces of the folds differ: use `fit`"
            )
            raise RecipeError(f"outputs.{name}.task", problem)
    pooled = _OutOfFold(plan.recipe, table)
    warn_bad_columns(bad_column_sentences(table, pooled.cell_errors.errors))
    for number, parts in enumerate(make_fold_splits(plan.recipe, table, folds)):
        shown.log(f"fold {number + 1} of {folds}")
        pooled.add(_run_fold(plan.with_schedule(len(parts["train"].rows)), parts, shown, warn=number == 0))
    result = pooled.result()
    if out is not None:
        result.save(out, overwrite=overwrite)
    return result


@dataclass(frozen=True)
class _Fold:
    """The results of one fold.

    unimodal: the predictions from each single input
    """

    parts: dict[str, Split[Table]]
    preparation: Preparation
    predictions: dict[str, Predictions]
    unimodal: dict[str, dict[str, Predictions]]
    cell_errors: CellErrors
    seconds: float


def _run_fold(plan: Plan, parts: dict[str, Split[Table]], progress: Progress, *, warn: bool = False) -> _Fold:
    """warn: warn of columns of inputs with many unusable cells, which are the same in every fold"""
    begun, recipe = time.perf_counter(), plan.recipe
    with scratch_folder() as folder:
        experiment = prepare_experiment(recipe, parts, folder=folder, cache=media_cache_folder(), progress=progress)
        if warn:
            targets = set(experiment.preparation.target_columns)
            warn_bad_columns({name: found for name, found in experiment.bad_columns.items() if name not in targets})
        experiment.check_targets(("train", "validation"))
        members = Trained(experiment, train_model(experiment, progress=progress))
        trained = choose_alternative(plan, members, parts, folder, RunFiles(), progress=progress)
        experiment, model = trained.experiment, trained.model
        inputs = list(model.recipe.inputs)
        method = recipe.evaluation.unimodal_scores if len(inputs) > 1 else "none"
        others = [frozenset(inputs) - {name} for name in inputs] if method == "mask" else []
        predictions, *masked = _predict_test(experiment, model, [frozenset(), *others])
        unimodal = dict(zip(inputs, masked, strict=False))
        for name in inputs if method == "train" else []:
            (unimodal[name],) = _predict_test(*train_unimodal(experiment, model, name, progress=progress))
    seconds = round(time.perf_counter() - begun, 3)
    return _Fold(parts, experiment.preparation, predictions, unimodal, experiment.cell_errors, seconds)


def _predict_test(
    experiment: Experiment, model: Model, hidden_inputs: Sequence[frozenset[str]] = (frozenset(),)
) -> list[dict[str, Predictions]]:
    """The predictions for the test rows, with each of these sets of inputs hidden."""
    split = predictable_splits(experiment, model, Progress(False))["test"]
    return model.row_predictor.predict_each(split, hidden_inputs)


class _OutOfFold:
    """Collects the out-of-fold distributions, in the class order of the whole table, and scores them.

    The baseline prediction of a row is the constant prediction of the training rows of its fold.
    """

    def __init__(self, recipe: Recipe, table: Table) -> None:
        self.recipe = recipe
        self.ground_truth = GroundTruth(recipe, table)
        self.tasks, self.cell_errors = self.ground_truth.tasks, self.ground_truth.cell_errors
        self.distributions, self.baseline = self.ground_truth.empty(), self.ground_truth.empty()
        self.unimodal: dict[str, Distributions] = {}
        self.fold_of = np.full(len(table), -1)
        self.folds: list[dict[str, Any]] = []

    def add(self, fold: _Fold) -> None:
        rows = fold.parts["test"].rows
        self.fold_of[rows] = len(self.folds)
        for name in self.tasks:
            own = fold.preparation.tasks[name]
            self.baseline[name][rows] = self.ground_truth.reorder_classes(
                name, own.baseline_predictions(len(rows)), own
            )
            predicted = own.distribution(fold.predictions[name].values)
            self.distributions[name][rows] = self.ground_truth.reorder_classes(name, predicted, own)
            for input_name, predictions in fold.unimodal.items():
                kept = self.unimodal.setdefault(input_name, self.ground_truth.empty())
                unimodal = own.distribution(predictions[name].values)
                kept[name][rows] = self.ground_truth.reorder_classes(name, unimodal, own)
        known = set(self.cell_errors.errors)
        for cell_error in fold.cell_errors.errors:
            if cell_error not in known and not self._of_target(cell_error):
                self.cell_errors.add(cell_error)
        self.folds.append(
            {
                "rows": {name: len(part.rows) for name, part in fold.parts.items()},
                "seconds": fold.seconds,
                "scores": {name: self._scores(name, rows) for name in self.tasks},
            }
        )

    def result(self) -> CrossValidation:
        everything = np.arange(len(self.fold_of))
        scores: Scores = {}
        for name in self.tasks:
            found = self.ground_truth.scores(
                name, self.distributions[name], self.recipe.evaluation, seed=self.recipe.seed
            )
            plain = self._scores(name, everything)
            scores[name] = {
                metric: score.model_dump() | plain[metric] | self._over_folds(name, metric)
                for metric, score in found.items()
            }
        trained = self.recipe.evaluation.unimodal_scores == "train" and bool(self.unimodal)
        return CrossValidation(
            recipe=self.recipe,
            folds=self.folds,
            scores=scores,
            comparison={name: self._compare(name, scores) for name in self.tasks} if trained else {},
            classes={name: list(task.classes) for name, task in self.tasks.items()},
            distributions=self.distributions,
            unimodal=self.unimodal,
            fold_of=self.fold_of,
            cell_errors=self.cell_errors,
        )

    def _of_target(self, cell_error: CellError) -> bool:
        """Whether the error is in a target. A class that is absent from the training rows of a fold is no error."""
        return any(cell_error.column in task.columns for task in self.tasks.values())

    def _scores(self, name: str, rows: np.ndarray) -> dict[str, Any]:
        """`value`, `baseline` and `unimodal` of every metric over `rows`."""
        found: dict[str, Any] = {}
        for metric in self.tasks[name].metrics:

            def score(distributions: Distributions, metric: Any = metric) -> float | None:
                got = self.ground_truth.value(name, metric, distributions[name], rows)
                return float(got) if np.isfinite(got) else None

            found[metric.name] = {"value": score(self.distributions), "baseline": score(self.baseline)}
            if self.unimodal:
                unimodal = {input_name: score(distributions) for input_name, distributions in self.unimodal.items()}
                found[metric.name]["unimodal"] = unimodal
        return found

    def _over_folds(self, name: str, metric: str) -> dict[str, float | None]:
        values = [fold["scores"][name][metric]["value"] for fold in self.folds]
        if None in values:
            return {"fold_mean": None, "fold_std": None}
        return {"fold_mean": float(np.mean(values)), "fold_std": float(np.std(values, ddof=1))}

    def _compare(self, name: str, scores: Scores) -> dict[str, Any]:
        """Compare the full model with the best unimodal model on the first metric.

        The best unimodal model is selected on the same rows, which favors it, so the test is conservative.
        """
        task, options = self.tasks[name], self.recipe.evaluation
        first = task.metrics[0]
        unimodal = {
            input_name: value if first.greater_is_better else -value
            for input_name, value in scores[name][first.name]["unimodal"].items()
            if value is not None
        }
        if not unimodal:
            return {}
        best = max(unimodal, key=lambda input_name: unimodal[input_name])
        found = compare_output(
            task,
            self.distributions[name],
            self.unimodal[best][name],
            self.ground_truth.targets(name),
            options,
            seed=self.recipe.seed,
        )
        return {"best_input": best, "metrics": found}
