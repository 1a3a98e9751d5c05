"""The HTML report of a search: leaderboard, ensemble, Pareto charts, and the audit of the inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from polymodal._version import __version__
from polymodal.core.formatting import format_duration, metric_name
from polymodal.core.writing import write_text
from polymodal.report.charts import HEIGHT, TOP, WIDTH, PlotArea, Range, interval_bar, padded_range
from polymodal.report.template import template
from polymodal.tuning.audit_results import EstimateWithInterval, InputAudit, OutputAudit, PairAudit
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.leaderboard import LeaderboardEntry, metric_value
from polymodal.tuning.overrides import format_overrides
from polymodal.tuning.results import TuningResult

FILE = "tuning.html"
#: Maximum number of trials on the page, best first; all baselines are shown.
MAX_TRIALS = 30
_COSTS = {
    "latency": "milliseconds per row",
    "memory": "training memory in MiB",
    "size": "size in MiB",
    "seconds": "training seconds of all folds",
}


@dataclass(frozen=True)
class LeaderboardRow:
    """One row of the leaderboard; `bar` is a chart of the score with its interval."""

    name: str
    kind: str
    description: str
    score: float | None
    low: float | None
    high: float | None
    bar: Markup
    seconds: str
    num_parameters: int
    size_mib: float
    latency_ms: float | None


@dataclass(frozen=True)
class AuditSection:
    """The audit of one output: all inputs and pairs with bar charts on a common scale."""

    result: OutputAudit
    metric: str
    inputs: list[tuple[InputAudit, Markup, Markup]]
    pairs: list[tuple[PairAudit, str, Markup]]
    values: list[tuple[str, EstimateWithInterval, Markup]]


def write_tuning_report(folder: Path | str, tuning: TuningResult) -> Path:
    """Write the report of a search, `tuning.html`, to `folder`, which is created if needed."""
    path = Path(folder) / FILE
    write_text(path, render_tuning(tuning))
    return path


def render_tuning(tuning: TuningResult) -> str:
    """The HTML source of the report."""
    folds = tuning.folds
    networks = [entry for entry in tuning.entries if entry.status != "baseline"]
    baselines = [entry for entry in tuning.entries if entry.status == "baseline"]
    kept = {id(entry) for entry in [*networks[:MAX_TRIALS], *baselines]}
    entries = [entry for entry in tuning.entries if id(entry) in kept]
    chosen = tuning.selection
    members = [] if chosen is None else list(zip(chosen.members, chosen.weights, strict=True))
    constant = next((entry.candidate for entry in baselines if entry.candidate.name == "constant"), None)
    ahead = [entry for entry in baselines if entry.candidate.score > tuning.best.score]
    return template("report.html.j2", "tuning").render(
        version=__version__,
        output=folds.output,
        metric=metric_name(folds.metric.name),
        less=not folds.metric.greater_is_better,
        rows=len(folds.fold_of),
        folds=len(folds),
        trials=len(networks) + len(tuning.failed),
        best=tuning.best,
        best_score=metric_value(tuning.best.score, tuning.folds),
        constant=None if constant is None else metric_value(constant.score, tuning.folds),
        ahead=[(one.candidate.name, metric_value(one.candidate.score, tuning.folds)) for one in ahead[:1]],
        corrected=tuning.corrected,
        ensemble=chosen,
        ensemble_score=None if chosen is None else metric_value(chosen.score, tuning.folds),
        members=[(member, weight, _weight_bar(weight)) for member, weight in members],
        lines=_lines(entries, tuning, constant),
        left_out=max(0, len(networks) - MAX_TRIALS),
        failed=tuning.failed,
        charts=[_pareto_chart(tuning, name) for name in tuning.objectives if name in _COSTS],
        audits=[_audit_section(result) for result in tuning.audit.outputs.values()],
        notes=tuning.audit.notes,
        seconds={name: format_duration(value) for name, value in tuning.seconds.items()},
        recipe=tuning.recipe.to_yaml(),
    )


def _description(entry: LeaderboardEntry, best: dict[str, Any], name: str) -> str:
    """The settings of a trial: all of them for the best trial, otherwise those that differ from the best trial."""
    if entry.candidate.name == name:
        return format_overrides(entry.overrides)
    return format_overrides({path: value for path, value in entry.overrides.items() if best.get(path) != value})


def _lines(
    entries: Sequence[LeaderboardEntry], tuning: TuningResult, constant: Candidate | None
) -> list[LeaderboardRow]:
    output, metric = tuning.folds.output, tuning.folds.metric.name
    scores = [entry.candidate.metrics.get(output, {}).get(metric, {}) for entry in entries]
    values = [metric_value(entry.candidate.score, tuning.folds) for entry in entries]
    baseline = None if constant is None else metric_value(constant.score, tuning.folds)
    limits = _range([*values, *(score.get(key) for score in scores for key in ("low", "high")), baseline])
    best = next((entry.overrides for entry in entries if entry.candidate.name == tuning.best.name), {})
    lines = []
    for entry, score, value in zip(entries, scores, values, strict=True):
        candidate = entry.candidate
        bar = (
            Markup("") if value is None else interval_bar(value, score.get("low"), score.get("high"), baseline, limits)
        )
        pruned = f"pruned after {candidate.num_folds} of {len(tuning.folds)} folds"
        lines.append(
            LeaderboardRow(
                name=candidate.name,
                kind=entry.status,
                description=pruned if entry.status == "pruned" else _description(entry, best, tuning.best.name),
                score=value,
                low=score.get("low"),
                high=score.get("high"),
                bar=bar,
                seconds=format_duration(candidate.seconds),
                num_parameters=candidate.num_parameters,
                size_mib=candidate.size_mib,
                latency_ms=candidate.latency_ms,
            )
        )
    return lines


def _pareto_chart(tuning: TuningResult, cost: str) -> Markup:
    """Score over one cost of all networks that ran on all folds; those on the Pareto front are highlighted."""
    of = {"latency": "latency_ms", "memory": "memory_mib", "size": "size_mib", "seconds": "seconds"}
    chosen = {one.name for one in tuning.pareto_front}
    points = []
    for entry in tuning.entries:
        one = entry.candidate
        x, y = getattr(one, of[cost]), metric_value(one.score, tuning.folds)
        if entry.status == "complete" and x is not None and y is not None:
            points.append((one.name, float(x), float(y), one.name in chosen))
    metric, two = metric_name(tuning.folds.metric.name), len(tuning.objectives) == 2
    return pareto_chart(points, title=f"{metric} and {_COSTS[cost]}", x_label=_COSTS[cost], y_label=metric, joined=two)


def pareto_chart(
    points: list[tuple[str, float, float, bool]], *, title: str, x_label: str, y_label: str, joined: bool
) -> Markup:
    """A chart of scores over costs. Each point is `(name, cost, score, is on the Pareto front)`: a dot on the front,
    else a ring.

    joined: connect the dots; only for two objectives, where the front is a line
    """
    xs, ys = [x for _, x, _, _ in points] or [0.0], [y for _, _, y, _ in points] or [0.0]
    frame = PlotArea(padded_range(min(xs), max(xs)), padded_range(min(ys), max(ys)), x_label, y_label)
    parts = [frame.axes()]
    if joined:
        path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in sorted((x, y) for _, x, y, best in points if best))
        parts.append(Markup('<polyline class="line one" points="{}"/>').format(path))
    for name, x, y, best in points:
        style = "dot" if best else "other"
        label = f"{name}: {y:.3g} at {x:.3g}"
        circle = Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
        parts.append(circle.format(style, frame.x(x), frame.y(y), 4.5 if best else 3.5, label))
    parts.append(Markup('<text x="{}" y="{}">{}</text>').format(54, TOP - 13, "dot: on the Pareto front"))
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{title}"><title>{title}</title>{}</svg>'
    ).format(WIDTH, HEIGHT, Markup("").join(parts), title=title)


def _audit_section(result: OutputAudit) -> AuditSection:
    estimates = [estimate for input in result.inputs for estimate in (input.unimodal, input.unique)]
    limits = _range([number for estimate in [*estimates, *result.values.values()] for number in _numbers(estimate)])
    pair_limits = _range([number for pair in result.pairs for number in _numbers(pair.co_information)])
    return AuditSection(
        result=result,
        metric=metric_name(result.metric),
        inputs=[(input, _bar(input.unimodal, limits), _bar(input.unique, limits)) for input in result.inputs],
        pairs=[(pair, _interaction_label(pair), _bar(pair.co_information, pair_limits)) for pair in result.pairs],
        values=[(name, estimate, _bar(estimate, limits)) for name, estimate in result.values.items()],
    )


def _interaction_label(pair: PairAudit) -> str:
    return {"redundancy": "redundancy", "synergy": "synergy", None: "not significant"}[pair.interaction]


def _numbers(estimate: EstimateWithInterval) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _bar(estimate: EstimateWithInterval, limits: Range) -> Markup:
    """A bar chart of an estimate with its interval; the stroke is 0."""
    known = math.isfinite(estimate.low) and math.isfinite(estimate.high)
    return interval_bar(estimate.value, estimate.low if known else None, estimate.high if known else None, 0.0, limits)


def _weight_bar(weight: float) -> Markup:
    return Markup(
        '<svg class="bar" viewBox="0 0 132 18" width="132" height="18" aria-hidden="true">'
        '<line class="rail" x1="6" x2="126" y1="9" y2="9"/><line class="span" x1="6" x2="{}" y1="9" y2="9"/></svg>'
    ).format(round(6 + 120 * weight, 1))


def _range(values: Sequence[float | None]) -> Range:
    """The range of some numbers and 0."""
    known: list[Any] = [value for value in values if value is not None and math.isfinite(value)]
    return min(0.0, *known) if known else 0.0, max(0.0, *known) if known else 1.0
