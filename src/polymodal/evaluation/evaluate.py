"""Scores of predictions, in the format of `metrics.json`."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.data.partition import Split
from polymodal.evaluation.scores import output_class_details, score_metric, score_output, score_perplexity
from polymodal.inference.predictions import Predictions
from polymodal.inference.predictor import Predictor
from polymodal.metrics.text.perplexity import PERPLEXITY
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
    prepared, rows = split.table, split.rows
    groups = None if prepared.groups is None else prepared.groups[rows]
    scores: Scores = {}
    for name, task in tasks.items():
        value, present = prepared.targets[name]
        found = score_output(
            task,
            task.distribution(predictions[name].values),
            value[rows],
            present[rows],
            _weight(split),
            options,
            seed=seed,
            groups=groups,
        )
        losses = predictions[name].losses
        if losses is not None:
            known = present[rows]
            clusters = None if groups is None else groups[known]
            found["perplexity"] = score_perplexity(
                losses.numpy()[known], _weights(split)[known], task.baseline_loss(), options, seed=seed, groups=clusters
            )
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
    rows = split.rows
    for name, task in tasks.items():
        value, present = split.table.targets[name]
        distribution = task.distribution(predictions[name].values)
        for metric in task.metrics:
            score = score_metric(metric, task, distribution, value[rows], present[rows], _weight(split))
            unimodal = scores[name][metric.name].setdefault("unimodal", {})
            unimodal[input_name] = float(score) if np.isfinite(score) else None
        losses = predictions[name].losses
        if losses is not None:
            known = present[rows]
            score = PERPLEXITY.score(losses.numpy()[known], losses.numpy()[known], _weights(split)[known])
            scores[name]["perplexity"].setdefault("unimodal", {})[input_name] = score if np.isfinite(score) else None


def class_details(
    tasks: dict[str, Task], predictions: dict[str, Predictions], split: Split[PreparedTable]
) -> dict[str, Any]:
    """The confusion matrix and per-class scores of each classification output, by output."""
    found = {}
    for name, task in tasks.items():
        value, present = split.table.targets[name]
        distribution = task.distribution(predictions[name].values)
        found[name] = output_class_details(task, distribution, value[split.rows], present[split.rows], _weight(split))
    return found


def evaluate(
    predictor: Predictor, split: Split[PreparedTable], options: EvaluationOptions, *, seed: int
) -> tuple[Scores, dict[str, Predictions]]:
    """Score the outputs of a network on the rows of a split.

    With `unimodal_scores: mask`, the unimodal scores hide all inputs except one.
    """
    tasks, inputs = predictor.preparation.tasks, list(predictor.preparation.modalities)
    if not tasks:
        return {}, {}
    predictions = predictor.predict(split)
    scores = score_predictions(tasks, predictions, split, options, seed=seed)
    if len(inputs) > 1 and options.unimodal_scores == "mask":
        for name in inputs:
            add_unimodal_scores(
                scores, name, tasks, predictor.predict(split, hidden_inputs=frozenset(inputs) - {name}), split
            )
    return scores, predictions


def _weight(split: Split[PreparedTable]) -> np.ndarray | None:
    """The sample weights, `[rows]`; None for equal weights."""
    weight = split.table.weight
    return None if weight is None else weight[split.rows]


def _weights(split: Split[PreparedTable]) -> np.ndarray:
    """The sample weights, `[rows]` float64; 1 for equal weights."""
    weight = _weight(split)
    return np.ones(len(split)) if weight is None else weight.astype(np.float64)
