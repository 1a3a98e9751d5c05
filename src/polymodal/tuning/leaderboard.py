"""What a search found, side by side: networks, baselines, and trials that were cut short or failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from polymodal.checkpoint.model_directory import json_ready
from polymodal.core.formatting import truncate, format_interval, format_score
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.study import format_overrides

#: Rows of the table on the terminal, baselines apart.
MAX_ROWS = 12


@dataclass(frozen=True)
class LeaderboardEntry:
    """One line: `status` is `complete`, `pruned` or `baseline`; `changes` is what the trial drew, by recipe path."""

    candidate: Candidate
    status: str
    changes: dict[str, Any]

    def to_dict(self, folds: Folds) -> dict[str, Any]:
        one = self.candidate
        facts = {key: value for key, value in one.facts().items() if key != "recipe"}
        return facts | {"status": self.status, "changes": self.changes, "score": metric_value(one.score, folds)}


def rank_entries(entries: Sequence[LeaderboardEntry]) -> list[LeaderboardEntry]:
    """What was run on every fold first, and the best of it first."""

    def place(entry: LeaderboardEntry) -> tuple[bool, bool, float]:
        value = entry.candidate.score
        return (entry.status == "pruned", not np.isfinite(value), -value if np.isfinite(value) else 0.0)

    return sorted(entries, key=place)


def metric_value(value: float, folds: Folds) -> float | None:
    """A score as the metric has it: an error less its turned sign; None where it is undefined."""
    if not np.isfinite(value):
        return None
    return value if folds.metric.greater_is_better else -value


def leaderboard_table(entries: Sequence[LeaderboardEntry], folds: Folds) -> Table:
    """The best trials and every baseline, for the terminal."""
    metric = folds.metric
    trials = [entry for entry in rank_entries(entries) if entry.status != "baseline"]
    baselines = [entry for entry in rank_entries(entries) if entry.status == "baseline"]
    shown = rank_entries([*trials[:MAX_ROWS], *baselines])
    title = f"{len(folds)} folds, {len(folds.fold_of)} rows, {metric.name} of {folds.output}"
    if not metric.greater_is_better:
        title += " (less is better)"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    for heading, width in (("score", 5), ("interval", 14), ("s", 4), ("MiB", 4), ("ms", 4)):
        table.add_column(heading, justify="right", no_wrap=True, min_width=width)
    table.add_column("what", overflow="fold")
    varied = _varying_paths(trials)
    for entry in shown:
        one, changes = entry.candidate, {path: entry.changes[path] for path in varied if path in entry.changes}
        found = one.metrics.get(folds.output, {}).get(metric.name, {})
        table.add_row(
            Text(truncate(one.name, 40)),
            Text(format_score(metric_value(one.score, folds))),
            Text(format_interval(found.get("low"), found.get("high")) if found.get("low") is not None else ""),
            Text(f"{one.seconds:.1f}"),
            Text(f"{one.size_mib:.1f}" if one.parameters else ""),
            Text("" if one.latency_ms is None else f"{one.latency_ms:.1f}"),
            Text(f"cut short after {one.folds}" if entry.status == "pruned" else format_overrides(changes)),
            style="dim" if entry.status == "pruned" else "cyan" if entry.status == "baseline" else "",
        )
    if len(trials) > MAX_ROWS:
        table.caption = f"and {len(trials) - MAX_ROWS} more trials in leaderboard.json"
    return table


def _varying_paths(entries: Sequence[LeaderboardEntry]) -> list[str]:
    """The recipe paths in which trials differ."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        for path, value in entry.changes.items():
            found.setdefault(path, set()).add(repr(value))
    return [path for path, values in found.items() if len(values) > 1]


def entries_json(entries: Sequence[LeaderboardEntry], folds: Folds) -> list[dict[str, Any]]:
    """Every entry, JSON-ready, the best first."""
    return [json_ready(entry.to_dict(folds)) for entry in rank_entries(entries)]
