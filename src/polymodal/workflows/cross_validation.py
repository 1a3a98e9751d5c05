"""Cross-validation: every row is scored by a model that never saw it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.checkpoint.model_directory import write_json
from polymodal.core.errors import DataError, PolymodalError, RecipeError
from polymodal.core.paths import media_cache_folder, scratch_folder
from polymodal.core.progress import Progress
from polymodal.core.registry import find
from polymodal.data.partition import Split, make_fold_splits
from polymodal.data.table.cell_errors import CellError, CellErrors
from polymodal.data.table.table import Table
from polymodal.evaluation.evaluate import Scores
from polymodal.evaluation.ground_truth import GroundTruth
from polymodal.experiments.arguments import RecipeLike, as_recipe, as_table, as_targets
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.plan import complete_schedule, make_plan
from polymodal.experiments.train import train_unimodal, train_model
from polymodal.inference.predictions import Predictions
from polymodal.model.model import Model
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.recipe import Recipe
from polymodal.workflows.model_comparison import compare_output

FILE = "cross_validation.json"

#: Distributions `[rows, k]` by output, rows in the order of the table.
Distributions = dict[str, np.ndarray]


@dataclass(frozen=True)
class CrossValidation:
    """The scores of one recipe over folds.

    recipe: the complete recipe; schedule values that it leaves open follow from each fold's number of rows
    folds: by fold, the number of rows of each part, seconds, and `scores[output][metric]`: `value`, `majority` and,
        where single inputs were scored, `alone`
    scores: over all rows together, each decided by the model of its fold: `value` with the bootstrap interval `low`
        to `high` (whole groups are drawn where the recipe names a group), `majority`, `alone`, and `fold_mean` and
        `fold_std` of the folds' values. The interval covers the choice of rows, not that of the training run.
    comparison: by output, the full model against the best single input (`workflows.model_comparison`: `a` is the full
        model, `b` the input `best_input`); empty unless
        `evaluation.singles` is `train` and there are two inputs or more
    classes, distributions: names and values `[rows, k]` of the out-of-fold distributions, by output
    singles: the same distributions from each input alone, by input
    fold_of: the fold of each row, `[rows]`
    faults: cells that could not be used, each once
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
        """Everything but the distributions, JSON-ready."""
        return {
            "recipe": self.recipe.to_dict(),
            "rows": len(self.fold_of),
            "folds": self.folds,
            "scores": self.scores,
            "comparison": self.comparison,
            "classes": self.classes,
            "faults": {"count": len(self.cell_errors.found), "by_column": self.cell_errors.counts()},
        }

    def save(self, folder: Path | str) -> Path:
        """Write `cross_validation.json` into `folder`."""
        path = Path(folder) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_dict())
        return path


def cross_validate(
    data: Any,
    target: str | list[str] | None = None,
    *,
    recipe: RecipeLike = None,
    settings: list[str] | None = None,
    folds: int = 5,
    root: Path | str | None = None,
    out: Path | str | None = None,
    progress: bool = False,
) -> CrossValidation:
    """Train and score the recipe `folds` times, each time on rows that the model of that fold never saw.

    Folds are grouped and stratified as `data.split` says, and so is the validation part (a share `data.split.valid`
    of the other rows). Vocabularies and statistics are learned anew from each fold's training rows. With
    `evaluation.singles: train`, each input alone is trained on the same folds.

    data, target, recipe, settings, root, progress: as in `fit`
    out: the folder in which `cross_validation.json` is written

    Raises:
        RecipeError, DataError, TrainingError: as `fit`; also for more folds than rows or groups, and for a recipe
            with `data.split.column`, which leaves no folds to draw.
        PolymodalError: `out` holds a cross-validation already.
    """
    if out is not None and (Path(out) / FILE).exists():
        raise PolymodalError(f"{Path(out) / FILE} is there already: choose another directory or delete it")
    shown = Progress(progress)
    table = as_table(data, root)
    if table is None:
        raise DataError("there is no data to train on")
    plan = make_plan(table, as_recipe(recipe, settings), as_targets(target))
    if not plan.recipe.outputs:
        raise RecipeError("outputs", "folds are scored by their targets: name one, or use `pretrain`, which needs none")
    if plan.recipe.data.split.column is not None:
        raise RecipeError(
            "data.split.column",
            "cross-validation draws its own parts: set it to null and put the column into data.ignore",
        )
    for name, spec in plan.recipe.outputs.items():
        if spec.task is not None and find("task", spec.task.name).is_embedding:
            problem = "embeddings of the folds' models lie in different spaces and cannot be scored together: use `fit`"
            raise RecipeError(f"outputs.{name}.task", problem)
    pooled = _OutOfFold(plan.recipe, table)
    for number, parts in enumerate(make_fold_splits(plan.recipe, table, folds)):
        shown.log(f"fold {number + 1} of {folds}")
        pooled.add(_run_fold(complete_schedule(plan.recipe, len(parts["train"].rows)), parts, shown))
    result = pooled.result()
    if out is not None:
        result.save(out)
    return result


@dataclass(frozen=True)
class _Fold:
    """What one fold leaves behind; `alone` are the decisions of each input alone."""

    parts: dict[str, Split[Table]]
    preparation: Preparation
    predictions: dict[str, Predictions]
    unimodal: dict[str, dict[str, Predictions]]
    cell_errors: CellErrors
    seconds: float


def _run_fold(recipe: Recipe, parts: dict[str, Split[Table]], progress: Progress) -> _Fold:
    begun = time.perf_counter()
    with scratch_folder() as place:
        experiment = prepare_experiment(recipe, parts, folder=place, cache=media_cache_folder(), progress=progress)
        model = train_model(experiment, progress=progress)
        predictions = _predict_test(experiment, model)
        unimodal = {}
        inputs = model.recipe.inputs
        unimodal = recipe.evaluation.unimodal_scores if len(inputs) > 1 else "none"
        for name in inputs if unimodal != "none" else []:
            if unimodal == "train":
                unimodal[name] = _predict_test(*train_unimodal(experiment, model, name, progress=progress))
            else:
                unimodal[name] = _predict_test(experiment, model, hidden_inputs=frozenset(inputs) - {name})
    seconds = round(time.perf_counter() - begun, 3)
    return _Fold(parts, experiment.preparation, predictions, unimodal, experiment.cell_errors, seconds)


def _predict_test(experiment: Experiment, model: Model, hidden_inputs: frozenset[str] = frozenset()) -> dict[str, Predictions]:
    split = experiment.feature_splits(model.network, Progress(False))["test"]
    return model.predictor.predict(split, hidden_inputs=hidden_inputs)


class _OutOfFold:
    """Gathers the folds' distributions row by row, in the classes of the whole table, and scores them.

    The majority answer of a row is that of its fold's training rows.
    """

    def __init__(self, recipe: Recipe, table: Table) -> None:
        self.recipe = recipe
        self.reference = GroundTruth(recipe, table)
        self.tasks, self.cell_errors = self.reference.tasks, self.reference.cell_errors
        self.distributions, self.baseline = self.reference.empty(), self.reference.empty()
        self.unimodal: dict[str, Distributions] = {}
        self.fold_of = np.full(len(table), -1)
        self.folds: list[dict[str, Any]] = []

    def add(self, fold: _Fold) -> None:
        rows = fold.parts["test"].rows
        self.fold_of[rows] = len(self.folds)
        for name in self.tasks:
            own = fold.preparation.tasks[name]
            self.baseline[name][rows] = self.reference.reorder_classes(name, own.baseline_predictions(len(rows)), own)
            predicted = own.distribution(fold.predictions[name].values)
            self.distributions[name][rows] = self.reference.reorder_classes(name, predicted, own)
            for single, predictions in fold.unimodal.items():
                kept = self.unimodal.setdefault(single, self.reference.empty())
                unimodal = own.distribution(predictions[name].values)
                kept[name][rows] = self.reference.reorder_classes(name, unimodal, own)
        known = set(self.cell_errors.found)
        for cell_error in fold.cell_errors.found:
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
            found = self.reference.scores(name, self.distributions[name], self.recipe.evaluation, seed=self.recipe.seed)
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
        """A label that only this fold's training rows lack is no fault of the table."""
        return any(cell_error.column in task.columns for task in self.tasks.values())

    def _scores(self, name: str, rows: np.ndarray) -> dict[str, Any]:
        """`value`, `majority` and `alone` of every metric over `rows`."""
        found: dict[str, Any] = {}
        for metric in self.tasks[name].metrics:

            def score(distributions: Distributions, metric: Any = metric) -> float | None:
                got = self.reference.value(name, metric, distributions[name], rows)
                return float(got) if np.isfinite(got) else None

            found[metric.name] = {"value": score(self.distributions), "baseline": score(self.baseline)}
            if self.unimodal:
                unimodal = {single: score(distributions) for single, distributions in self.unimodal.items()}
                found[metric.name]["unimodal"] = unimodal
        return found

    def _over_folds(self, name: str, metric: str) -> dict[str, float | None]:
        values = [fold["scores"][name][metric]["value"] for fold in self.folds]
        if None in values:
            return {"fold_mean": None, "fold_std": None}
        return {"fold_mean": float(np.mean(values)), "fold_std": float(np.std(values, ddof=1))}

    def _compare(self, name: str, scores: Scores) -> dict[str, Any]:
        """The full model against the input that scores best alone on the first metric.

        That input is chosen with these same rows in view, which favours it: the test is on the careful side.
        """
        task, options = self.tasks[name], self.recipe.evaluation
        first = task.metrics[0]
        unimodal = {
            single: value if first.greater_is_better else -value
            for single, value in scores[name][first.name]["unimodal"].items()
            if value is not None
        }
        if not unimodal:
            return {}
        best = max(unimodal, key=lambda single: unimodal[single])
        found = compare_output(
            task,
            self.distributions[name],
            self.unimodal[best][name],
            self.reference.truth.targets[name],
            self.reference.truth.weight,
            options,
            seed=self.recipe.seed,
            groups=self.reference.groups,
        )
        return {"best_input": best, "metrics": found}
