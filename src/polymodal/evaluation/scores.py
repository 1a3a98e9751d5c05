"""The scores of one output: every metric of its task with interval and baseline, and per-class details."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.metrics.base import Metric
from polymodal.metrics.classification import confusion_matrix, per_class
from polymodal.metrics.text.perplexity import PERPLEXITY
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task


class Score(BaseModel):
    """One metric, JSON-ready; None for an undefined number.

    value, low, high: the score and its bootstrap interval
    baseline: the score of the best constant prediction (class frequencies, mean) on the same rows
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    low: float | None
    high: float | None
    baseline: float | None
    greater_is_better: bool = True


def score_output(
    task: Task,
    distribution: np.ndarray,
    target: np.ndarray,
    present: np.ndarray,
    weight: np.ndarray | None,
    options: EvaluationOptions,
    *,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> dict[str, Score]:
    """The score of every metric of `task` by name, over rows with a target.

    distribution: `[rows, k]`, from `task.distribution`
    target, present: `[rows, ...]` and `[rows]` bool, from `task.prepare`
    weight, groups: `[rows]`, or None for equal weights and independent rows
    """
    predicted, truth, weights = _present(task, distribution, target, present, weight)
    clusters = None if groups is None else groups[present]
    baseline = baseline_scores(task, target, present, weight)
    scores = {}
    for metric in task.metrics:
        found = bootstrap(
            metric,
            predicted,
            truth,
            weights,
            Resampling(options.bootstrap_samples, options.confidence_level, seed, clusters),
        )
        scores[metric.name] = Score(
            value=_finite(found.value),
            low=_finite(found.low),
            high=_finite(found.high),
            baseline=_finite(baseline[metric.name]),
            greater_is_better=metric.greater_is_better,
        )
    return scores


def score_perplexity(
    losses: np.ndarray,
    weight: np.ndarray,
    baseline_nll: float,
    options: EvaluationOptions,
    *,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Score:
    """The perplexity of known texts, from the `losses [rows, 2]` of a generative model.

    baseline_nll: nats per token of the best constant prediction, the token frequencies of the training texts
    weight, groups: `[rows]`, or None for independent rows
    """
    found = bootstrap(
        PERPLEXITY,
        losses,
        losses,
        weight,
        Resampling(options.bootstrap_samples, options.confidence_level, seed, groups),
    )
    return Score(
        value=_finite(found.value),
        low=_finite(found.low),
        high=_finite(found.high),
        baseline=_finite(math.exp(min(baseline_nll, 700.0))),
        greater_is_better=False,
    )


def score_metric(
    metric: Metric,
    task: Task,
    distribution: np.ndarray,
    target: np.ndarray,
    present: np.ndarray,
    weight: np.ndarray | None = None,
) -> float:
    """One metric over rows with a target, without interval; NaN if undefined."""
    return metric.score(*_present(task, distribution, target, present, weight))


def baseline_scores(
    task: Task, target: np.ndarray, present: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, float]:
    """Every metric of the constant prediction `task.baseline_prediction()` on rows with a target; NaN if undefined."""
    baseline = task.baseline_predictions(len(present))
    return {metric.name: score_metric(metric, task, baseline, target, present, weight) for metric in task.metrics}


def output_class_details(
    task: Task,
    distribution: np.ndarray,
    target: np.ndarray,
    present: np.ndarray,
    weight: np.ndarray | None = None,
) -> dict[str, Any]:
    """Per-class scores and the confusion matrix of a classification, JSON-ready; empty for numbers and texts.

    classes: names of the k classes or labels
    per_class: `precision`, `recall`, `f1`, `support` of each class (None if undefined)
    confusion: `[k][k]` summed weights, true class by row and predicted class by column; only for exclusive classes
    """
    if task.space in ("real", "text"):
        return {}
    predicted, truth, weights = task.per_class_arrays(*_present(task, distribution, target, present, weight))
    table = per_class(predicted, truth, weights, task.threshold)
    found: dict[str, Any] = {
        "classes": task.classes,
        "per_class": {name: [_finite(value) for value in values] for name, values in table.items()},
    }
    if task.space == "categorical":
        found["confusion"] = confusion_matrix(predicted, truth, weights).tolist()
    return found


def _present(
    task: Task, distribution: np.ndarray, target: np.ndarray, present: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distribution, truth and weight of the rows with a target."""
    weights = np.ones(len(present)) if weight is None else weight.astype(np.float64)
    return distribution[present], task.truth(target[present]), weights[present]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
