"""Significance test of two saved models on the same rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import RecipeError
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.evaluation import paired_bootstrap
from polymodal.evaluation.class_alignment import have_same_classes, reorder_classes
from polymodal.evaluation.intervals import Resampling
from polymodal.evaluation.targets import OutputTargets, add_to_scores, check_targets
from polymodal.evaluation.training_rows import warn_training_rows
from polymodal.model.distributions import distributions
from polymodal.model.model import Model
from polymodal.model.scored_tables import count_training_rows
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task


@check_arguments
def compare(a: Model, b: Model, data: Any, *, root: Path | str | None = None) -> dict[str, Any]:
    """Score two models on the same rows and test whether they differ.

    Use rows that neither model was trained on. The inputs of the models may differ; outputs and classes must be the
    same. Bootstrap options, sample weights and groups are those of the recipe of `a`.

    data: rows with the inputs of both models and the targets, as in `Model.evaluate`

    Returns `result[output][metric]`: the scores `a` and `b`, `difference` = a - b with its interval `low` to `high`,
    the `p_value` of the paired bootstrap, the exact `mcnemar` p-value (accuracy without groups; else None),
    `greater_is_better`, and the numbers of rows as in `Model.evaluate`. Undefined numbers are None.

    Raises:
        RecipeError: outputs or classes of the models differ.
        DataError: a column of a model is missing, or no row has a usable target.

    Example:
        >>> import polymodal
        >>> data = {"length": [1.0, 1.2, 5.0, 5.1] * 5, "kind": ["short", "short", "long", "long"] * 5}
        >>> settings = ["training.epochs=1", "evaluation.bootstrap_samples=10"]
        >>> a, b = (polymodal.fit(data, "kind", settings=[*settings, f"seed={seed}"]) for seed in (0, 1))
        >>> result = polymodal.compare(a, b, data)
        >>> 0 <= result["kind"]["accuracy"]["p_value"] <= 1
        True
    """
    _check_outputs(a, b)
    table = b.open(a.open(data, root, targets=True))
    trained = max(count_training_rows(model.run, model.preparation, table) for model in (a, b))
    warn_training_rows(trained, len(table), table.name)
    cell_errors = CellErrors()
    truth = Split.all_rows(a.preparation.targets_only().prepare(table, cell_errors, folder=None, cache=None))
    check_targets(a.preparation.tasks, truth, "row", table.name, cell_errors.errors)
    warn_cell_errors(cell_errors.errors)
    decided_a, decided_b = distributions(a, table), distributions(b, table)
    found = {}
    for name, task in a.preparation.tasks.items():
        found[name] = compare_output(
            task,
            decided_a[name],
            reorder_classes(decided_b[name], b.preparation.tasks[name], task),
            OutputTargets.of(truth, name),
            a.recipe.evaluation,
            seed=a.recipe.seed,
        )
    return add_to_scores(found, training_rows=trained)


def compare_output(
    task: Task,
    a: np.ndarray,
    b: np.ndarray,
    targets: OutputTargets,
    options: EvaluationOptions,
    *,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Every metric of one output for distributions `a` and `b` `[rows, k]`, in the format of `compare`, over the rows
    that can be scored."""
    scored, counts = targets.scored(task), targets.counts(task)
    a, truth, weights = targets.arrays(task, a)
    b = b[scored]
    groups = None if targets.groups is None else targets.groups[scored]
    found = {}
    for metric in task.metrics:
        difference = paired_bootstrap.paired_difference(
            metric, a, b, truth, weights, Resampling(options.bootstrap_samples, options.confidence_level, seed, groups)
        )
        scores = {
            "a": metric.score(a, truth, weights),
            "b": metric.score(b, truth, weights),
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p_value": difference.p_value,
            "mcnemar": difference.mcnemar,
        }
        found[metric.name] = {
            **{key: _defined(score) for key, score in scores.items()},
            "greater_is_better": metric.greater_is_better,
            **counts.model_dump(),
        }
    return found


def _defined(score: float | None) -> float | None:
    return float(score) if score is not None and math.isfinite(score) else None


def _check_outputs(a: Model, b: Model) -> None:
    """Raises RecipeError if outputs or classes differ."""
    tasks_a, tasks_b = a.preparation.tasks, b.preparation.tasks
    if sorted(tasks_a) != sorted(tasks_b):
        raise RecipeError("outputs", f"the outputs of the models differ: {sorted(tasks_a)} and {sorted(tasks_b)}")
    for name, task in tasks_a.items():
        if not have_same_classes(task, tasks_b[name]):
            raise RecipeError(
                f"outputs.{name}",
                f"the classes of the models differ: {task.options.name} of {task.classes} and "
                f"{tasks_b[name].options.name} of {tasks_b[name].classes}",
            )
