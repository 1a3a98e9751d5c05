"""The evidence on one output in the report: contributions of inputs, coverage of sets, risk and coverage, slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from polymodal.core.formatting import split_name
from polymodal.core.paths import media_cache_folder
from polymodal.data.partition import Split
from polymodal.data.table.cell_errors import CellErrors
from polymodal.diagnosis.slices import MIN_ROWS, Slices, find_slices
from polymodal.evaluation.targets import OutputTargets
from polymodal.experiments.score import SplitScores
from polymodal.explanation.explained_value import explained_value
from polymodal.explanation.input_contributions import InputContributions, MeanContribution, input_contributions
from polymodal.model.diagnosis import row_losses, table_candidates
from polymodal.model.explanations import removal_notes
from polymodal.model.model import Model
from polymodal.preparation.preparation import PreparedTable
from polymodal.report.charts import ChartLine, line_chart
from polymodal.report.examples import Example
from polymodal.report.explanations import SignedBar, signed_bars
from polymodal.tasks.base import Task
from polymodal.uncertainty.abstention import RiskCoverage, risk_coverage
from polymodal.uncertainty.calibration_rows import is_calibrated, known_targets, present_inputs
from polymodal.uncertainty.conformal_sets import Conformal, conformal_answers
from polymodal.uncertainty.nonconformity import fewest_rows

#: Contributions are computed for up to this many inputs, as every subset is predicted, and are means of these rows.
MAX_INPUTS, MAX_ROWS = 6, 200
#: Coverages of the table of sets.
COVERAGES = (0.8, 0.9, 0.95)
#: Points of a chart.
MAX_POINTS = 150


@dataclass(frozen=True)
class MeanBar:
    """The contribution of an input over the rows, and its bar."""

    mean: MeanContribution
    bar: SignedBar


@dataclass(frozen=True)
class CoverageRow:
    """The sets of one coverage on rows that calibration did not use.

    held: the fraction of the rows whose set holds the truth
    size: the mean number of classes or labels of a set, or the median width of an interval
    """

    asked: float
    held: float
    size: float


@dataclass(frozen=True)
class Evidence:
    """What the report shows of one output beside its scores; what is not computed is empty or None."""

    contributions: list[MeanBar]
    scale: str
    notes: tuple[str, ...]
    coverages: list[CoverageRow]
    size: str
    curve: RiskCoverage | None
    chart: Markup | None
    slices: Slices | None


def output_evidence(model: Model, scored: SplitScores, name: str, part: str) -> Evidence | None:
    """The evidence on an output with classes, labels or numbers, on the rows of the split `part`; None for others."""
    task, split = model.preparation.tasks[name], scored.split
    if not is_calibrated(task):
        return None
    draw = np.random.default_rng(model.recipe.seed)
    some = np.sort(draw.permutation(split.rows)[:MAX_ROWS])
    found = contributions(model, scored, name, some) if len(some) else None
    means = [] if found is None else found.means()
    bars = signed_bars([one.input for one in means], np.array([one.mean_absolute for one in means]))
    distribution = task.distribution(scored.predictions[name].values)
    curve = _risk_coverage(task, name, split, distribution)
    return Evidence(
        contributions=[MeanBar(one, bar) for one, bar in zip(means, bars, strict=True)],
        scale="" if found is None else found.scale.replace("_", "-"),
        notes=() if found is None else found.notes,
        coverages=_coverages(model, scored, name) if part == "test" else [],
        size={"real": "median width", "binary": "labels of a set"}.get(task.space, "classes of a set"),
        curve=curve,
        chart=None if curve is None else _chart(curve, part),
        slices=_slices(model, scored, name, distribution),
    )


def contributions(model: Model, scored: SplitScores, name: str, rows: np.ndarray) -> InputContributions | None:
    """The contributions of the inputs in some rows; None for one input, which contributes all, and for many."""
    preparation, task = model.preparation, model.preparation.tasks[name]
    if not 2 <= len(model.recipe.inputs) <= MAX_INPUTS or (task.space == "real" and len(task.columns) > 1):
        return None
    explained = explained_value(preparation.tasks, name)
    # Only these rows are prepared again: a predictor of members may encode all items of a prepared table.
    blocks = preparation.blocks(scored.cells.table, CellErrors(), rows=rows, cache=media_cache_folder())
    splits = (Split.all_rows(preparation.prepare_block(block)) for block in blocks)
    return input_contributions(model.row_predictor, splits, explained, removal_notes(model.recipe, model.ensemble))


def with_reasons(model: Model, scored: SplitScores, name: str, examples: Sequence[Example]) -> list[Example]:
    """The examples with the contributions of the inputs to their predictions."""
    if not examples or not is_calibrated(model.preparation.tasks[name]):
        return list(examples)
    rows = np.array([one.row for one in examples])
    found = contributions(model, scored, name, rows)
    if found is None:
        return list(examples)
    return [
        replace(one, reasons=tuple(signed_bars(found.inputs, values)))
        for one, values in zip(examples, found.values, strict=True)
    ]


def _coverages(model: Model, scored: SplitScores, name: str) -> list[CoverageRow]:
    task, rows = model.preparation.tasks[name], model.calibration.get(name)
    value, present = (array[scored.split.rows] for array in scored.split.table.targets[name])
    known = np.flatnonzero(known_targets(task, value, present))
    if rows is None or not len(known):
        return []
    values, inputs = scored.predictions[name].values[known], present_inputs(scored.split)[known]
    truth, found = task.truth(value[known]), []
    for coverage in COVERAGES:
        if len(rows) < fewest_rows(coverage):
            continue
        answers = conformal_answers(task, values, inputs, rows, Conformal(coverage)).values
        held, sizes = zip(*(_held(task, answer, own) for answer, own in zip(answers, truth, strict=True)), strict=True)
        size = np.median(sizes) if task.space == "real" else np.mean(sizes)
        found.append(CoverageRow(coverage, float(np.mean(held)), float(size)))
    return found


def _held(task: Task, answer: object, truth: np.ndarray) -> tuple[bool, float]:
    """Whether a set or interval holds the truth of a row, of several columns each, and its size."""
    if task.space == "real":
        ends = np.array(answer, dtype=np.float64).reshape(-1, 2)
        return bool(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).all()), float((ends[:, 1] - ends[:, 0]).mean())
    assert isinstance(answer, list), "classes and labels have sets"
    own = {task.class_labels[at] for at in (np.flatnonzero(truth > 0) if task.space == "binary" else [int(truth)])}
    return own <= set(answer), float(len(answer))


def _risk_coverage(task: Task, name: str, split: Split[PreparedTable], distribution: np.ndarray) -> RiskCoverage | None:
    if task.space != "categorical":
        return None
    known, truth, _ = OutputTargets.of(split, name).arrays(task, distribution)
    return risk_coverage(name, known.max(axis=1), known.argmax(axis=1) == truth) if len(known) else None


def _chart(curve: RiskCoverage, part: str) -> Markup:
    chosen = np.unique(np.linspace(0, len(curve) - 1, min(MAX_POINTS, len(curve))).astype(np.int64))
    points = [(float(curve.coverage[at]), float(curve.risk[at])) for at in chosen]
    return line_chart(
        [ChartLine("risk of the answers", points, "one")],
        title=f"Risk of {curve.output} over coverage, {split_name(part)} rows",
        x_label="fraction of rows that are answered",
        y_label="fraction wrong",
        level=("all rows", float(curve.risk[-1])),
        integers_only=False,
    )


def _slices(model: Model, scored: SplitScores, name: str, distribution: np.ndarray) -> Slices | None:
    """The slices of columns of the table; None for too few rows."""
    task, targets = model.preparation.tasks[name], OutputTargets.of(scored.split, name)
    known, truth, _ = targets.arrays(task, distribution)
    if len(known) < 4 * MIN_ROWS:
        return None
    loss, unit = row_losses(task, known, truth)
    table, rows = scored.cells.table, scored.cells.rows[targets.scored(task)]
    columns = [one for one in table.columns if one not in model.preparation.target_columns]
    return find_slices(loss, table_candidates(table, columns, rows), output=name, unit=unit, seed=model.recipe.seed)
