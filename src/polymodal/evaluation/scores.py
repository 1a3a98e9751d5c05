"""The scores of one output: every metric of its task with interval and baseline, and per-class details."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from polymodal.core.caller import warn_caller
from polymodal.core.errors import PolymodalWarning
from polymodal.core.formatting import count_noun, join_words
from polymodal.core.types import TOKEN_SPACES
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.evaluation.targets import OutputTargets, RowCounts
from polymodal.metrics.base import Metric
from polymodal.metrics.classification import confusion_matrix, per_class
from polymodal.metrics.text.perplexity import PERPLEXITY
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task

#: The name of all classes that training did not see, in tables of classes.
UNKNOWN_CLASSES = "(not in training)"


class UndefinedScoreWarning(PolymodalWarning):
    """A score is undefined, because predictions are not finite."""


class Score(RowCounts):
    """One metric, JSON-ready; None for an undefined number.

    value, low, high: the score and its bootstrap interval
    baseline: the score of the best constant prediction (class frequencies, mean) on the same rows
    rows, unknown_class_rows, left_out: as in `RowCounts`
    """

    value: float | None
    low: float | None
    high: float | None
    baseline: float | None
    greater_is_better: bool = True


def score_output(
    task: Task,
    distribution: np.ndarray,
    targets: OutputTargets,
    options: EvaluationOptions,
    *,
    seed: int = 0,
    counts: RowCounts | None = None,
) -> dict[str, Score]:
    """The score of every metric of `task` by name, over the rows that can be scored.

    distribution: `[rows, k]`, from `task.distribution`
    counts: the numbers of scored and other rows; None: those of `targets`
    """
    predicted, truth, weights = targets.arrays(task, distribution)
    if predicted.dtype.kind == "f" and (broken := int((~np.isfinite(predicted)).any(1).sum())):
        warn_caller(
            f"{broken:,} of {count_noun(len(predicted), 'prediction')} of {join_words(task.columns)} are not finite, "
            "so their scores are undefined",
            UndefinedScoreWarning,
        )
    clusters = None if targets.groups is None else targets.groups[targets.scored(task)]
    baseline, counts = baseline_scores(task, targets), counts or targets.counts(task)
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
            **counts.model_dump(),
        )
    return scores


def score_perplexity(
    losses: np.ndarray,
    targets: OutputTargets,
    task: Task,
    options: EvaluationOptions,
    *,
    seed: int = 0,
) -> Score:
    """The perplexity of known texts, from the `losses [rows, 2]` of a generative model. Its baseline is that of the
    best constant prediction, the token frequencies of the training texts."""
    known = targets.present
    found = bootstrap(
        PERPLEXITY,
        losses[known],
        losses[known],
        _known_weights(targets),
        Resampling(
            options.bootstrap_samples,
            options.confidence_level,
            seed,
            None if targets.groups is None else targets.groups[known],
        ),
    )
    without = known & (losses[:, 1] <= 0) & (True if targets.weight is None else targets.weight > 0)
    return Score(
        value=_finite(found.value),
        low=_finite(found.low),
        high=_finite(found.high),
        baseline=_finite(math.exp(min(task.baseline_loss(), 700.0))),
        greater_is_better=False,
        **targets.counts(task).with_left_out("no_target_tokens", int(without.sum())).model_dump(),
    )


def perplexity_value(losses: np.ndarray, targets: OutputTargets) -> float | None:
    """The perplexity of known texts without interval; None if undefined."""
    known = losses[targets.present]
    return _finite(PERPLEXITY.score(known, known, _known_weights(targets)))


def score_metric(metric: Metric, task: Task, distribution: np.ndarray, targets: OutputTargets) -> float:
    """One metric over the rows that can be scored, without interval; NaN if undefined."""
    return metric.score(*targets.arrays(task, distribution))


def baseline_scores(task: Task, targets: OutputTargets) -> dict[str, float]:
    """Every metric of the constant prediction `task.baseline_prediction()` on the rows that can be scored; NaN if
    undefined."""
    baseline = task.baseline_predictions(len(targets))
    return {metric.name: score_metric(metric, task, baseline, targets) for metric in task.metrics}


def output_class_details(task: Task, distribution: np.ndarray, targets: OutputTargets) -> dict[str, Any]:
    """Per-class scores and the confusion matrix of a classification, JSON-ready; empty for numbers, texts and images.

    classes: names of the k classes or labels; `UNKNOWN_CLASSES` comes last, if rows have a class that training did not
        see
    per_class: `precision`, `recall`, `f1`, `support` of each class (None if undefined)
    confusion: `[k][k]` summed weights, true class by row and predicted class by column; only for exclusive classes
    """
    by_class = task.class_scores(*targets.arrays(task, distribution)) if task.needs_positions else None
    if by_class is not None:
        return {
            "classes": list(task.classes),
            "per_class": {name: [_finite(value) for value in values] for name, values in by_class.items()},
        }
    if task.space in ("real", *TOKEN_SPACES):
        return {}
    predicted, truth, weights = task.per_class_arrays(*targets.arrays(task, distribution))
    classes, known = list(task.classes), predicted.shape[1]
    if task.space == "categorical" and (truth >= known).any():
        classes.append(UNKNOWN_CLASSES)
        predicted, truth = np.pad(predicted, ((0, 0), (0, 1))), np.minimum(truth, known)
    table = per_class(predicted, truth, weights, task.threshold)
    found: dict[str, Any] = {
        "classes": classes,
        "per_class": {name: [_finite(value) for value in values] for name, values in table.items()},
    }
    if task.space == "categorical":
        found["confusion"] = confusion_matrix(predicted, truth, weights).tolist()
    return found


def _known_weights(targets: OutputTargets) -> np.ndarray:
    """The weights of the rows with a target, `[rows]` float64."""
    rows = int(targets.present.sum())
    return np.ones(rows) if targets.weight is None else targets.weight[targets.present].astype(np.float64)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
