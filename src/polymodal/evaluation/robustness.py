"""Robustness: scores with each input removed, and with each input corrupted at increasing strength."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict

from polymodal.data.partition import Split
from polymodal.evaluation.evaluate import Scores, score_predictions
from polymodal.evaluation.scores import score_metric
from polymodal.evaluation.targets import OutputTargets
from polymodal.inference.ensemble_predictor import PredictsSplits
from polymodal.inference.predictions import Predictions
from polymodal.preparation.preparation import ItemCorruption, Preparation, PreparedTable
from polymodal.recipe.evaluation import EvaluationOptions
from polymodal.tasks.base import Task

#: Strengths of every corruption; strength 0 is the unchanged data.
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class RemovalScore(BaseModel):
    """The score without one input, with its bootstrap interval.

    drop: how much worse the score is than with the input
    """

    model_config = ConfigDict(frozen=True)

    value: float | None
    low: float | None
    high: float | None
    drop: float | None


class CorruptionCurve(BaseModel):
    """Scores at `STRENGTHS`, and the area under the curve (the mean score over strengths from 0 to 1)."""

    model_config = ConfigDict(frozen=True)

    scores: list[float | None]
    area: float | None


class Robustness(BaseModel):
    """The first metric of one output with inputs removed or corrupted; JSON-ready.

    baseline: the score of the best constant prediction
    removed: by input; corrupted: by input and corruption
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    greater_is_better: bool
    value: float | None
    low: float | None
    high: float | None
    baseline: float | None
    strengths: tuple[float, ...]
    removed: dict[str, RemovalScore]
    corrupted: dict[str, dict[str, CorruptionCurve]]


def measure_robustness(
    predictor: PredictsSplits,
    split: Split[PreparedTable],
    options: EvaluationOptions,
    *,
    seed: int,
    raw: Split[PreparedTable] | None = None,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Robustness]:
    """The robustness of every output over the rows of a split, by output.

    raw: the same rows with prepared items, which are corrupted, if the table of `split` has cached features

    Each input is hidden, and corrupted by each corruption of its modality at each strength. The other inputs do not
    change. Corruptions are drawn from `seed`, so results are reproducible. `advance` is called with the number of
    passes since the last call; `count_passes` returns the number of all passes.
    """

    preparation, raw = predictor.preparation, raw or split
    tasks = preparation.tasks

    def corrupted_predictions(corruption: ItemCorruption) -> dict[str, Predictions]:
        name = corruption.input
        table = replace(split.table, inputs=split.table.inputs | {name: raw.table.inputs[name]})
        found = predictor.predict(Split(table, split.rows), corruption=corruption)
        if advance:
            advance(1)
        return found

    def scored(predictions: dict[str, Predictions]) -> Scores:
        return score_predictions(tasks, predictions, split, options, seed=seed)

    names = list(preparation.modalities)
    hidden = [frozenset[str](), *(frozenset({name}) for name in names)]
    clean_predictions, *without = predictor.predict_each(split, hidden)
    if advance:
        advance(len(hidden))
    clean, clean_first = scored(clean_predictions), _first_metrics(tasks, clean_predictions, split)
    removed = {name: scored(found) for name, found in zip(names, without, strict=True)}
    corrupted: dict[str, dict[str, list[dict[str, float | None]]]] = {}
    for name, modality in preparation.modalities.items():
        for kind in modality.corruptions:
            steps = [clean_first]
            for strength in STRENGTHS[1:]:
                generator = np.random.default_rng([seed, zlib.crc32(f"{name}/{kind}".encode())])
                corruption = ItemCorruption(name, kind, strength, generator)
                steps.append(_first_metrics(tasks, corrupted_predictions(corruption), split))
            corrupted.setdefault(name, {})[kind] = steps
    return {output: _of_output(preparation, output, clean, removed, corrupted) for output in preparation.tasks}


def count_passes(preparation: Preparation) -> int:
    """The number of passes of `measure_robustness` over the rows."""
    inputs = preparation.modalities.values()
    return 1 + len(inputs) + (len(STRENGTHS) - 1) * sum(len(modality.corruptions) for modality in inputs)


def _first_metrics(
    tasks: dict[str, Task], predictions: dict[str, Predictions], split: Split[PreparedTable]
) -> dict[str, float | None]:
    """The score of the first metric of every output."""
    found: dict[str, float | None] = {}
    for name, task in tasks.items():
        distribution = task.distribution(predictions[name].values)
        score = score_metric(task.metrics[0], task, distribution, OutputTargets.of(split, name))
        found[name] = float(score) if np.isfinite(score) else None
    return found


def _of_output(
    preparation: Preparation,
    output: str,
    clean: Scores,
    removed: dict[str, Scores],
    corrupted: dict[str, dict[str, list[dict[str, float | None]]]],
) -> Robustness:
    metric = preparation.tasks[output].metrics[0]
    whole = clean[output][metric.name]
    without = {}
    for name, scores in removed.items():
        score, drop = scores[output][metric.name], None
        if score["value"] is not None and whole["value"] is not None:
            drop = (whole["value"] - score["value"]) * (1 if metric.greater_is_better else -1)
        without[name] = RemovalScore(value=score["value"], low=score["low"], high=score["high"], drop=drop)
    return Robustness(
        metric=metric.name,
        greater_is_better=metric.greater_is_better,
        value=whole["value"],
        low=whole["low"],
        high=whole["high"],
        baseline=whole["baseline"],
        strengths=STRENGTHS,
        removed=without,
        corrupted={
            name: {kind: _curve([step[output] for step in steps]) for kind, steps in kinds.items()}
            for name, kinds in corrupted.items()
        },
    )


def _curve(scores: list[float | None]) -> CorruptionCurve:
    known = [score for score in scores if score is not None]
    area = float(np.trapezoid(known, STRENGTHS)) if len(known) == len(scores) else None
    return CorruptionCurve(scores=scores, area=area)
