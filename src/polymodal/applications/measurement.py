"""Size, speed and score of several models on the same rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from polymodal.core.types import Space
from polymodal.data.partition import Split
from polymodal.evaluation.class_alignment import reorder_classes
from polymodal.evaluation.scores import score_metric
from polymodal.evaluation.targets import OutputTargets
from polymodal.inference.batching import PREDICTION_BATCH_SIZE
from polymodal.model.model import Model
from polymodal.model.size import weights_bytes
from polymodal.preparation.preparation import PreparedTable
from polymodal.runtime.random_state import isolated_random_state

#: Number of timing rounds over all models.
TIMING_ROUNDS = 7


@dataclass(frozen=True)
class ModelMeasurement:
    """Size, speed and score of a model.

    size_mib: size of its weights in files; latency_ms: median time of one prepared row; rows_per_second: throughput in
        batches
    score: the first metric of the first output; None if undefined
    agreement: fraction of predictions equal to those of the first model (numbers: within 1 % of their standard
        deviation)
    """

    size_mib: float
    latency_ms: float
    rows_per_second: float
    score: float | None
    agreement: float


def measure_models(models: Mapping[str, tuple[Model, PreparedTable]]) -> dict[str, ModelMeasurement]:
    """Measure models on the same rows, interleaved, each with these rows as its preparation reads them."""
    first, prepared = next(iter(models.values()))
    name, task = next(iter(first.tasks.items()))
    rows = np.arange(prepared.rows)
    single_times: dict[str, list[float]] = {label: [] for label in models}
    batch_times: dict[str, list[float]] = {label: [] for label in models}
    predictions: dict[str, np.ndarray] = {}
    with isolated_random_state():
        for round_index in range(TIMING_ROUNDS + 1):
            for label, (model, table) in models.items():
                start = time.perf_counter()
                _predict(model, table, rows[round_index % len(rows) :][:1])
                middle = time.perf_counter()
                outputs = _predict(model, table, rows[:PREDICTION_BATCH_SIZE])
                end = time.perf_counter()
                if round_index:  # the first round is a warm-up
                    single_times[label].append(middle - start)
                    batch_times[label].append(end - middle)
                    continue
                if len(rows) > PREDICTION_BATCH_SIZE:
                    outputs = _predict(model, table, rows)
                own = model.tasks[name]
                predictions[label] = reorder_classes(own.distribution(outputs[name].values), own, task)
    targets = OutputTargets.of(Split.all_rows(prepared), name)
    found = {}
    for label, (model, _) in models.items():
        score = score_metric(task.metrics[0], task, predictions[label], targets)
        found[label] = ModelMeasurement(
            round(weights_bytes(model) / 2**20, 3),
            round(statistics.median(single_times[label]) * 1e3, 3),
            round(min(len(rows), PREDICTION_BATCH_SIZE) / statistics.median(batch_times[label]), 1),
            float(score) if np.isfinite(score) else None,
            _agreement(next(iter(predictions.values())), predictions[label], task.space),
        )
    return found


def _predict(model: Model, prepared: PreparedTable, rows: np.ndarray) -> Any:
    """The predictions by a new predictor, which has no features of an earlier round."""
    return model.row_predictor.predict(Split(prepared, rows))


def _agreement(before: np.ndarray, after: np.ndarray, space: Space) -> float:
    if space == "text":
        return float((before == after).mean())
    if space == "categorical":
        return float((before.argmax(-1) == after.argmax(-1)).mean())
    if space == "binary":
        return float(((before > 0.5) == (after > 0.5)).mean())
    spread = before.std(0).clip(1e-12)
    return float((np.abs(before - after) <= 0.01 * spread).mean())
