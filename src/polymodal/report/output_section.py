"""Section of the report for one output: scores, learning curves, confusion matrix, calibration, worst rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from polymodal.core.formatting import format_score, metric_name, split_name
from polymodal.evaluation.targets import OutputTargets
from polymodal.experiments.score import SplitScores
from polymodal.model.model import Model
from polymodal.report.calibration import calibration_error, confidence_and_correctness, reliability_bins
from polymodal.report.charts import ChartLine, Range, interval_bar, line_chart, reliability_chart, scatter_chart
from polymodal.report.evidence import Evidence, output_evidence, with_reasons
from polymodal.report.examples import Example, best_examples, spread_images, typical_texts, worst_examples
from polymodal.report.model_summary import ScoreRow, chosen_epochs, score_rows, verdict
from polymodal.tasks.base import Task
from polymodal.training.records import Epoch

#: Classes of the confusion matrix, and of the table of classes: the most frequent.
MAX_IN_MATRIX, MAX_IN_TABLE = 30, 100
#: Rows whose generated texts are shown, from the best to the worst.
TYPICAL_TEXTS = 6
#: Rows whose generated images are shown.
SPREAD_IMAGES = 12
#: Rows that are shown as the best.
BEST_ROWS = 6
#: Charts of predicted over true numbers for one output.
MAX_SCATTERS = 6


@dataclass(frozen=True)
class ClassRow:
    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: float


@dataclass(frozen=True)
class ConfusionMatrix:
    """A confusion matrix of the most frequent classes.

    fractions: each row divided by its sum over all classes
    left_out: number of classes that are not shown
    """

    classes: list[str]
    counts: list[list[float]]
    fractions: list[list[float]]
    left_out: int


@dataclass(frozen=True)
class OutputSection:
    """Everything the report shows of one output."""

    name: str
    kind: str
    columns: list[str]
    verdict: list[str]
    scores: dict[str, list[tuple[ScoreRow, Markup]]]
    unimodal: list[str]
    curves: list[Markup]
    classes: list[ClassRow]
    classes_left_out: int
    matrix: ConfusionMatrix | None
    scatters: list[Markup]
    calibration: Markup | None
    calibration_error: str
    evidence: Evidence | None
    examples: list[Example]
    best: list[Example]
    generated: list[Example]
    images: list[Example]
    notes: list[str]


def output_section(model: Model, scored: SplitScores, name: str, part: str, examples: int) -> OutputSection:
    """The section of output `name`; charts, classes and up to `examples` wrong rows are of the split `part`."""
    task = model.preparation.tasks[name]
    detail = scored.detail.get(name, {})
    split = scored.split
    distribution = task.distribution(scored.predictions[name].values)
    distribution, truth, _ = OutputTargets.of(split, name).arrays(task, distribution)
    bins = reliability_bins(*confidence_and_correctness(distribution, truth)) if task.has_probabilities else []
    order = _by_frequency(detail)
    lead = score_rows(model, part, name)[:1]
    best = best_examples(model.preparation, scored, name, min(examples, BEST_ROWS))
    return OutputSection(
        name=name,
        kind=task.options.name,
        columns=task.columns,
        verdict=verdict(model, part, name),
        scores={one: with_bars(score_rows(model, one, name)) for one in ("test", "validation") if one in model.metrics},
        unimodal=list(lead[0].unimodal) if lead else [],
        curves=_curves(model, name, "perplexity" if task.is_generative else task.metrics[0].name, task.baseline_loss()),
        classes=_class_rows(detail, order[:MAX_IN_TABLE]),
        classes_left_out=max(0, len(order) - MAX_IN_TABLE),
        matrix=_matrix(detail, order) if "confusion" in detail else None,
        scatters=_scatters(distribution, truth, task.columns, part)
        if task.space == "real" and not task.is_embedding
        else [],
        calibration=_calibration(bins, task, name) if bins else None,
        calibration_error=format_score(calibration_error(bins)),
        evidence=output_evidence(model, scored, name, part),
        examples=with_reasons(model, scored, name, worst_examples(model.preparation, scored, name, examples)),
        best=with_reasons(model, scored, name, best),
        generated=typical_texts(model.preparation, scored, name, TYPICAL_TEXTS) if task.space == "text" else [],
        images=spread_images(model.preparation, scored, name, SPREAD_IMAGES) if task.space == "image" else [],
        notes=list(task.notes),
    )


def with_bars(rows: list[ScoreRow]) -> list[tuple[ScoreRow, Markup]]:
    """Each score with the chart of its interval."""
    found = []
    for row in rows:
        bar = Markup("")
        if row.value is not None:
            bar = interval_bar(row.value, row.low, row.high, row.baseline, _ends(row))
        found.append((row, bar))
    return found


def _ends(row: ScoreRow) -> Range:
    """The ends of the bar of a metric: 0 to 1 if its numbers lie there, else from 0 (or below) to beyond all."""
    known = [x for x in (row.value, row.low, row.high, row.baseline) if x is not None]
    low, high = min(0.0, *known), max(known)
    return low, max(1.0, high) if row.greater_is_better else 1.05 * high or 1.0


def _curves(model: Model, name: str, metric: str, chance: float) -> list[Markup]:
    history = model.run.history
    if not history:
        return []
    chosen: list[float] = [float(epoch) for epoch in chosen_epochs(model)]

    def points(values: Callable[[Epoch], Mapping[str, float | None]], key: str) -> list[tuple[float, float]]:
        found = [(float(epoch.epoch), values(epoch).get(key)) for epoch in history]
        return [(epoch, number) for epoch, number in found if number is not None]

    shown = metric_name(metric)
    loss = line_chart(
        [
            ChartLine("training", points(lambda epoch: epoch.loss, name), "two"),
            ChartLine("validation", points(lambda epoch: epoch.validation_loss, name), "one"),
        ],
        title=f"Loss of {name} by epoch, on training and validation rows",
        x_label="epoch",
        y_label="loss",
        level=("baseline", chance),
        marked=chosen,
    )
    scores = line_chart(
        [ChartLine("validation", points(lambda epoch: epoch.validation, f"{name}.{metric}"), "one")],
        title=f"{shown} of {name} by epoch, on validation rows",
        x_label="epoch",
        y_label=shown,
        marked=chosen,
    )
    return [loss, scores]


def _by_frequency(detail: dict[str, Any]) -> np.ndarray:
    """Class numbers, the most frequent first."""
    return np.argsort(-np.array(detail["per_class"]["support"]), kind="stable") if detail else np.zeros(0, np.int64)


def _class_rows(detail: dict[str, Any], order: np.ndarray) -> list[ClassRow]:
    return [
        ClassRow(
            detail["classes"][number],
            *(detail["per_class"][key][number] for key in ("precision", "recall", "f1", "support")),
        )
        for number in sorted(order.tolist())
    ]


def _matrix(detail: dict[str, Any], order: np.ndarray) -> ConfusionMatrix:
    full = np.array(detail["confusion"])
    chosen = np.sort(order[:MAX_IN_MATRIX])
    sums = full.sum(1, keepdims=True)
    fractions = np.divide(full, sums, out=np.zeros_like(full), where=sums > 0)
    inside = np.ix_(chosen, chosen)
    return ConfusionMatrix(
        [detail["classes"][number] for number in chosen],
        full[inside].tolist(),
        fractions[inside].tolist(),
        len(full) - len(chosen),
    )


def _scatters(distribution: np.ndarray, truth: np.ndarray, columns: list[str], part: str) -> list[Markup]:
    charts = []
    for index, column in enumerate(columns[:MAX_SCATTERS]):
        finite = np.isfinite(distribution[:, index]) & np.isfinite(truth[:, index])
        charts.append(
            scatter_chart(
                truth[finite, index],
                distribution[finite, index],
                title=f"Predicted over true {column}, {split_name(part)} rows",
                unit=column,
            )
        )
    return charts


def _calibration(bins: list[Any], task: Task, name: str) -> Markup:
    labels, suffix = task.space == "binary", " in a cell" if task.grid is not None else ""
    return reliability_chart(
        bins,
        title=f"Reliability of the probabilities of {name}",
        x_label=f"probability of a label{suffix}" if labels else "probability of the prediction",
        y_label="fraction with the label" if labels else "fraction correct",
    )
