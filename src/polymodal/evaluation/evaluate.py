"""Scores of decided rows, as they stand in `metrics.json`."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.evaluation.scores import detail, score_metric, score_output, score_perplexity
from polymodal.inference.inference import PREDICTION_BATCH, Decisions, decide
from polymodal.metrics.text.perplexity import PERPLEXITY
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.runtime.compute import Machine

#: Scores of one part of the data: `scores[output][metric]` is a JSON-ready mapping.
Scores = dict[str, dict[str, Any]]


def score_decisions(
    preparation: Preparation,
    decisions: dict[str, Decisions],
    prepared: PreparedTable,
    rows: np.ndarray,
    options: EvaluationOptions,
    *,
    seed: int,
    groups: np.ndarray | None = None,
) -> Scores:
    """Every metric of every output with interval and floor, and the perplexity of texts that are known;
    `groups [rows]` makes the intervals clustered."""
    scores: Scores = {}
    for name, task in preparation.tasks.items():
        value, present = prepared.targets[name]
        found = score_output(
            task,
            task.distribution(decisions[name].values),
            value[rows],
            present[rows],
            None if prepared.weight is None else prepared.weight[rows],
            options,
            seed=seed,
            groups=groups,
        )
        losses = decisions[name].losses
        if losses is not None:
            weight = np.ones(len(rows)) if prepared.weight is None else prepared.weight[rows].astype(np.float64)
            known = present[rows]
            clusters = None if groups is None else groups[known]
            found["perplexity"] = score_perplexity(
                losses.numpy()[known], weight[known], task.chance(), options, seed=seed, groups=clusters
            )
        scores[name] = {metric: score.model_dump() for metric, score in found.items()}
    return scores


def add_alone(
    scores: Scores,
    input_name: str,
    preparation: Preparation,
    decisions: dict[str, Decisions],
    prepared: PreparedTable,
    rows: np.ndarray,
) -> None:
    """Put the scores of decisions that saw only `input_name` beside the others: `scores[...]["alone"][input]`."""
    weight = None if prepared.weight is None else prepared.weight[rows]
    for name, task in preparation.tasks.items():
        value, present = prepared.targets[name]
        distribution = task.distribution(decisions[name].values)
        for metric in task.metrics:
            score = score_metric(metric, task, distribution, value[rows], present[rows], weight)
            alone = scores[name][metric.name].setdefault("alone", {})
            alone[input_name] = float(score) if np.isfinite(score) else None
        losses = decisions[name].losses
        if losses is not None:
            known = present[rows]
            weights = np.ones(int(known.sum())) if weight is None else weight[known].astype(np.float64)
            score = PERPLEXITY.score(losses.numpy()[known], losses.numpy()[known], weights)
            scores[name]["perplexity"].setdefault("alone", {})[input_name] = score if np.isfinite(score) else None


def details(
    preparation: Preparation, decisions: dict[str, Decisions], prepared: PreparedTable, rows: np.ndarray
) -> dict[str, Any]:
    """Confusion and per-class scores of each classification output, by output."""
    found = {}
    for name, task in preparation.tasks.items():
        value, present = prepared.targets[name]
        weight = None if prepared.weight is None else prepared.weight[rows]
        distribution = task.distribution(decisions[name].values)
        found[name] = detail(task, distribution, value[rows], present[rows], weight)
    return found


def evaluate_network(
    network: Network,
    preparation: Preparation,
    prepared: PreparedTable,
    rows: np.ndarray,
    *,
    machine: Machine,
    options: EvaluationOptions,
    seed: int,
    groups: np.ndarray | None = None,
) -> tuple[Scores, dict[str, Decisions]]:
    """Score the outputs of a network on `rows`, with `alone` scores by hiding all inputs but one where
    `options.singles` is `mask`."""

    if not preparation.tasks:
        return {}, {}

    def decided(hide: frozenset[str]) -> dict[str, Decisions]:
        batch = PREDICTION_BATCH
        return decide(network, preparation, prepared, rows, machine=machine, batch=batch, hide=hide)

    decisions = decided(frozenset())
    scores = score_decisions(preparation, decisions, prepared, rows, options, seed=seed, groups=groups)
    inputs = list(preparation.modalities)
    if len(inputs) > 1 and options.singles == "mask":
        for name in inputs:
            add_alone(scores, name, preparation, decided(frozenset(inputs) - {name}), prepared, rows)
    return scores, decisions
