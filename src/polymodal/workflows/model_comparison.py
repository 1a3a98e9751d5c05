"""Is one saved model better than another on the same rows?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.data.partition import groups_of
from polymodal.data.table.cell_errors import CellErrors, warn_cell_errors
from polymodal.evaluation import paired_bootstrap
from polymodal.evaluation.class_alignment import reorder_classes, have_same_classes
from polymodal.evaluation.intervals import Resampling
from polymodal.model.distributions import distributions
from polymodal.model.model import Model
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task


def compare(a: Model, b: Model, data: Any, *, root: Path | str | None = None) -> dict[str, Any]:
    """Score two models on the same rows and test whether they differ.

    The rows should be new to both. The models may have different inputs; outputs and classes must be the same. The
    number of resamples, the confidence, sample weights and groups are those of the recipe of `a`.

    data: rows with the inputs of both and the targets, as in `Model.evaluate`

    Returns `found[output][metric]`: the scores `a` and `b`, `difference` = a - b with its interval `low` to `high`,
    `p_value` of the paired bootstrap, the exact `mcnemar` p-value (accuracy without groups; else None), and
    `greater_is_better`. Undefined values are None.

    Raises:
        RecipeError: the models do not have the same outputs with the same classes.
        DataError: a column of either model is not there.
    """
    _check_outputs(a, b)
    table = b.open(a.open(data, root, targets=True))
    cell_errors = CellErrors()
    truth = a.preparation.targets_only().prepare(table, cell_errors, folder=None, cache=None)
    warn_cell_errors(cell_errors.found)
    decided_a, decided_b = distributions(a, table), distributions(b, table)
    groups = groups_of(a.recipe, table)
    found = {}
    for name, task in a.preparation.tasks.items():
        found[name] = compare_output(
            task,
            decided_a[name],
            reorder_classes(decided_b[name], b.preparation.tasks[name], task),
            truth.targets[name],
            truth.weight,
            a.recipe.evaluation,
            seed=a.recipe.seed,
            groups=groups,
        )
    return found


def compare_output(
    task: Task,
    a: np.ndarray,
    b: np.ndarray,
    target: tuple[np.ndarray, np.ndarray],
    weight: np.ndarray | None,
    options: EvaluationOptions,
    *,
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
    """Every metric of one output for distributions `a` and `b` `[rows, k]`, as `compare` returns it.

    target: prepared values `[rows, ...]` and `[rows]` bool, as `Task.prepare` gives them; rows without one are left out
    """
    value, present = target
    truth = task.truth(value[present])
    weights = np.ones(len(present)) if weight is None else weight.astype(np.float64)
    weights, a, b = weights[present], a[present], b[present]
    groups = None if groups is None else groups[present]
    found = {}
    for metric in task.metrics:
        difference = paired_bootstrap.compare(
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
        }
    return found


def _defined(score: float | None) -> float | None:
    return float(score) if score is not None and math.isfinite(score) else None


def _check_outputs(a: Model, b: Model) -> None:
    """Raises: RecipeError: outputs or classes differ."""
    tasks_a, tasks_b = a.preparation.tasks, b.preparation.tasks
    if sorted(tasks_a) != sorted(tasks_b):
        raise RecipeError("outputs", f"the models do not decide the same: {sorted(tasks_a)} and {sorted(tasks_b)}")
    for name, task in tasks_a.items():
        if not have_same_classes(task, tasks_b[name]):
            raise RecipeError(
                f"outputs.{name}",
                f"the models do not decide the same: {task.options.name} of {task.classes} and "
                f"{tasks_b[name].options.name} of {tasks_b[name].classes}",
            )
