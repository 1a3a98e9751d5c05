"""Scores of predictions, in the format of `metrics.json`."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.data.partition import Split
from polymodal.evaluation.scores import (
    output_class_details,
    perplexity_value,
    score_metric,
    score_output,
    score_perplexity,
)
from polymodal.evaluation.targets import OutputTargets
from polymodal.inference.ensemble_predictor import PredictsSplits
from polymodal.inference.predictions import Predictions
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task

#: Scores of one split: `scores[output][metric]` is a JSON-ready mapping.
Scores = dict[str, dict[str, Any]]


def score_predictions(
    tasks: dict[str, Task],
    predictions: dict[str, Predictions],
    split: Split[PreparedTable],
    options: EvaluationOptions,
    *,
    seed: int,
) -> Scores:
    """Every metric of every output with its interval and baseline, and the perplexity of known texts.

    If the table has groups, the intervals use the cluster bootstrap.
    """
    scores: Scores = {}
    for name, task in tasks.items():
        targets = OutputTargets.of(split, name)
        found = score_output(task, task.distribution(predictions[name].values), targets, options, seed=seed)
        losses = predictions[name].losses
        if losses is not None:
            found["perplexity"] = score_perplexity(losses.numpy(), targets, task, options, seed=seed)
        scores[name] = {metric: score.model_dump() for metric, score in found.items()}
    return scores


def add_unimodal_scores(
    scores: Scores,
    input_name: str,
    tasks: dict[str, Task],
    predictions: dict[str, Predictions],
    split: Split[PreparedTable],
) -> None:
    """Add the scores of predictions from only `input_name`: `scores[output][metric]["unimodal"][input_name]`."""
    for name, task in tasks.items():
        targets = OutputTargets.of(split, name)
        distribution = task.distribution(predictions[name].values)
        for metric in task.metrics:
            score = score_metric(metric, task, distribution, targets)
            unimodal = scores[name][metric.name].setdefault("unimodal", {})
            unimodal[input_name] = float(score) if np.isfinite(score) else None
        losses = predictions[name].losses
        if losses is not None:
            score_of_texts = perplexity_value(losses.numpy(), targets)
            scores[name]["perplexity"].setdefault("unimodal", {})[input_name] = score_of_texts


def class_details(
    tasks: dict[str, Task], predictions: dict[str, Predictions], split: Split[PreparedTable]
) -> dict[str, Any]:
    """The confusion matrix and per-class scores of each classification output, by output."""
    return {
        name: output_class_details(task, task.distribution(predictions[name].values), OutputTargets.of(split, name))
        for name, task in tasks.items()
    }


def evaluate(
    predictor: PredictsSplits, split: Split[PreparedTable], options: EvaluationOptions, *, seed: int
) -> tuple[Scores, dict[str, Predictions]]:
    """Score the outputs of a network on the rows of a split.

    With `unimodal_scores: mask`, the unimodal scores hide all inputs except one.
    """
    tasks, inputs = predictor.preparation.tasks, list(predictor.preparation.modalities)
    if not tasks:
        return {}, {}
    alone = inputs if len(inputs) > 1 and options.unimodal_scores == "mask" else []
    hidden = [frozenset[str](), *(frozenset(inputs) - {name} for name in alone)]
    predictions, *unimodal = predictor.predict_each(split, hidden)
    scores = score_predictions(tasks, predictions, split, options, seed=seed)
    for name, found in zip(alone, unimodal, strict=True):
        add_unimodal_scores(scores, name, tasks, found, split)
    return scores, predictions
