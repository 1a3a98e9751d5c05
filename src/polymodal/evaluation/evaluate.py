"""Scores of decided rows, as they stand in `metrics.json`."""

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

#: Scores of one part of the data: `scores[output][metric]` is a JSON-ready mapping.
Scores = dict[str, dict[str, Any]]


def score_predictions(
    tasks: dict[str, Task],
    decisions: dict[str, Predictions],
    split: Split[PreparedTable],
    options: EvaluationOptions,
    *,
    seed: int,
) -> Scores:
    """Every metric of every output with interval and floor, and the perplexity of texts that are known. Where the
    table has groups, the intervals are clustered."""
    prepared, rows = split.table, split.rows
    groups = None if prepared.groups is None else prepared.groups[rows]
    scores: Scores = {}
    for name, task in tasks.items():
        value, present = prepared.targets[name]
        found = score_output(
            task,
            task.distribution(decisions[name].values),
            value[rows],
            present[rows],
            _weight(split),
            options,
            seed=seed,
            groups=groups,
        )
        losses = decisions[name].losses
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
    decisions: dict[str, Predictions],
    split: Split[PreparedTable],
) -> None:
    """Put the scores of decisions that saw only `input_name` beside the others: `scores[...]["alone"][input]`."""
    rows = split.rows
    for name, task in tasks.items():
        value, present = split.table.targets[name]
        distribution = task.distribution(decisions[name].values)
        for metric in task.metrics:
            score = score_metric(metric, task, distribution, value[rows], present[rows], _weight(split))
            unimodal = scores[name][metric.name].setdefault("alone", {})
            unimodal[input_name] = float(score) if np.isfinite(score) else None
        losses = decisions[name].losses
        if losses is not None:
            known = present[rows]
            score = PERPLEXITY.score(losses.numpy()[known], losses.numpy()[known], _weights(split)[known])
            scores[name]["perplexity"].setdefault("alone", {})[input_name] = score if np.isfinite(score) else None


def class_details(tasks: dict[str, Task], decisions: dict[str, Predictions], split: Split[PreparedTable]) -> dict[str, Any]:
    """Confusion and per-class scores of each classification output, by output."""
    found = {}
    for name, task in tasks.items():
        value, present = split.table.targets[name]
        distribution = task.distribution(decisions[name].values)
        found[name] = output_class_details(task, distribution, value[split.rows], present[split.rows], _weight(split))
    return found


def evaluate(
    predictor: Predictor, split: Split[PreparedTable], options: EvaluationOptions, *, seed: int
) -> tuple[Scores, dict[str, Predictions]]:
    """Score the outputs of a network on the rows of a split, with `alone` scores by hiding all inputs but one where
    `options.singles` is `mask`."""
    tasks, inputs = predictor.preparation.tasks, list(predictor.preparation.modalities)
    if not tasks:
        return {}, {}
    decisions = predictor.predict(split)
    scores = score_predictions(tasks, decisions, split, options, seed=seed)
    if len(inputs) > 1 and options.unimodal_scores == "mask":
        for name in inputs:
            add_unimodal_scores(scores, name, tasks, predictor.predict(split, hidden_inputs=frozenset(inputs) - {name}), split)
    return scores, decisions


def _weight(split: Split[PreparedTable]) -> np.ndarray | None:
    """The sample weights, `[rows]`; None where all weigh the same."""
    weight = split.table.weight
    return None if weight is None else weight[split.rows]


def _weights(split: Split[PreparedTable]) -> np.ndarray:
    """The sample weights, `[rows]` float64; 1 where all weigh the same."""
    weight = _weight(split)
    return np.ones(len(split)) if weight is None else weight.astype(np.float64)
