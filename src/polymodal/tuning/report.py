"""The page of a search: leaderboard, ensemble, front of costs, and the audit of the inputs, in one HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from polymodal._version import __version__
from polymodal.core.formatting import format_duration, metric_name
from polymodal.report.charts import HEIGHT, TOP, WIDTH, PlotArea, Range, interval_bar, padded_range
from polymodal.report.template import template
from polymodal.tuning.audit_results import Estimate, InputAudit, OutputAudit, PairAudit
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.leaderboard import LeaderboardEntry, metric_value
from polymodal.tuning.results import TuningResult
from polymodal.tuning.study import format_overrides

FILE = "tuning.html"
#: Trials on the page, the best first; every baseline is shown.
MAX_TRIALS = 30
_COSTS = {
    "latency": "milliseconds for one row",
    "memory": "MiB that training holds",
    "size": "MiB",
    "seconds": "seconds to train all folds",
}


@dataclass(frozen=True)
class LeaderboardRow:
    """One line of the leaderboard; `bar` is its score with the interval."""

    name: str
    kind: str
    what: str
    score: float | None
    low: float | None
    high: float | None
    bar: Markup
    seconds: str
    parameters: int
    size_mib: float
    latency_ms: float | None


@dataclass(frozen=True)
class AuditSection:
    """The audit of one output: each input and pair with its bars on one scale."""

    found: OutputAudit
    metric: str
    inputs: list[tuple[InputAudit, Markup, Markup]]
    pairs: list[tuple[PairAudit, str, Markup]]
    values: list[tuple[str, Estimate, Markup]]


def write_tuning_report(folder: Path | str, tuning: TuningResult) -> Path:
    """Write the page of a search, `tuning.html`, into `folder`, which is made if it is not there."""
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(render_tuning(tuning).encode("utf-8", "replace"))
    return path


def render_tuning(tuning: TuningResult) -> str:
    """The HTML text of the page."""
    folds = tuning.folds
    networks = [entry for entry in tuning.entries if entry.status != "baseline"]
    baselines = [entry for entry in tuning.entries if entry.status == "baseline"]
    kept = {id(entry) for entry in [*networks[:MAX_TRIALS], *baselines]}
    shown = [entry for entry in tuning.entries if id(entry) in kept]
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
        lines=_lines(shown, tuning, constant),
        left_out=max(0, len(networks) - MAX_TRIALS),
        failed=tuning.failed,
        charts=[_pareto_chart(tuning, name) for name in tuning.objectives if name in _COSTS],
        audits=[_audit_section(found) for found in tuning.audit.outputs.values()],
        notes=tuning.audit.notes,
        seconds={name: format_duration(value) for name, value in tuning.seconds.items()},
        recipe=tuning.recipe.to_yaml(),
    )


def _description(entry: LeaderboardEntry, best: dict[str, Any], name: str) -> str:
    """What a trial drew: the best one in full, the others where they differ from it."""
    if entry.candidate.name == name:
        return format_overrides(entry.changes)
    return format_overrides({path: value for path, value in entry.changes.items() if best.get(path) != value})


def _lines(entries: Sequence[LeaderboardEntry], tuning: TuningResult, constant: Candidate | None) -> list[LeaderboardRow]:
    output, metric = tuning.folds.output, tuning.folds.metric.name
    found = [entry.candidate.metrics.get(output, {}).get(metric, {}) for entry in entries]
    values = [metric_value(entry.candidate.score, tuning.folds) for entry in entries]
    floor = None if constant is None else metric_value(constant.score, tuning.folds)
    ends = _range([*values, *(one.get(key) for one in found for key in ("low", "high")), floor])
    best = next((entry.changes for entry in entries if entry.candidate.name == tuning.best.name), {})
    lines = []
    for entry, one, value in zip(entries, found, values, strict=True):
        candidate = entry.candidate
        bar = Markup("") if value is None else interval_bar(value, one.get("low"), one.get("high"), floor, ends)
        cut_short = f"cut short after {candidate.num_folds} of {len(tuning.folds)} folds"
        lines.append(
            LeaderboardRow(
                name=candidate.name,
                kind=entry.status,
                what=cut_short if entry.status == "pruned" else _description(entry, best, tuning.best.name),
                score=value,
                low=one.get("low"),
                high=one.get("high"),
                bar=bar,
                seconds=format_duration(candidate.seconds),
                parameters=candidate.num_parameters,
                size_mib=candidate.size_mib,
                latency_ms=candidate.latency_ms,
            )
        )
    return lines


def _pareto_chart(tuning: TuningResult, cost: str) -> Markup:
    """Score over one cost: every network that ran on all folds, those of the front pointed out."""
    of = {"latency": "latency_ms", "memory": "memory_mib", "size": "size_mib", "seconds": "seconds"}
    chosen = {one.name for one in tuning.front}
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
    """Scores over costs. Each point is `(name, cost, score, whether no other is as good in everything)`: a dot where it
    is so, else a ring. joined: connect the dots (with further costs, they are no line)."""
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
    parts.append(Markup('<text x="{}" y="{}">{}</text>').format(54, TOP - 13, "dot: no other is as good in everything"))
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{title}"><title>{title}</title>{}</svg>'
    ).format(WIDTH, HEIGHT, Markup("").join(parts), title=title)


def _audit_section(found: OutputAudit) -> AuditSection:
    amounts = [amount for one in found.inputs for amount in (one.unimodal, one.unique)]
    ends = _range([number for one in [*amounts, *found.values.values()] for number in _numbers(one)])
    shares = _range([number for pair in found.pairs for number in _numbers(pair.co_information)])
    return AuditSection(
        found=found,
        metric=metric_name(found.metric),
        inputs=[(one, _bar(one.unimodal, ends), _bar(one.unique, ends)) for one in found.inputs],
        pairs=[(pair, _interaction_label(pair), _bar(pair.co_information, shares)) for pair in found.pairs],
        values=[(name, amount, _bar(amount, ends)) for name, amount in found.values.items()],
    )


def _interaction_label(pair: PairAudit) -> str:
    return {"redundant": "redundant", "synergy": "more together", None: "nothing sure"}[pair.interaction]


def _numbers(amount: Estimate) -> tuple[float, float, float]:
    return amount.value, amount.low, amount.high


def _bar(amount: Estimate, ends: Range) -> Markup:
    """An amount with its interval; the stroke is 0."""
    known = math.isfinite(amount.low) and math.isfinite(amount.high)
    return interval_bar(amount.value, amount.low if known else None, amount.high if known else None, 0.0, ends)


def _weight_bar(weight: float) -> Markup:
    return Markup(
        '<svg class="bar" viewBox="0 0 132 18" width="132" height="18" aria-hidden="true">'
        '<line class="rail" x1="6" x2="126" y1="9" y2="9"/><line class="span" x1="6" x2="{}" y1="9" y2="9"/></svg>'
    ).format(round(6 + 120 * weight, 1))


def _range(values: Sequence[float | None]) -> Range:
    """From the least to the greatest of some numbers, 0 among them."""
    known: list[Any] = [value for value in values if value is not None and math.isfinite(value)]
    return min(0.0, *known) if known else 0.0, max(0.0, *known) if known else 1.0
