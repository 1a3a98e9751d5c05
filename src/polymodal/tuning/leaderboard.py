"""The leaderboard of a search: networks, baselines, and pruned trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from polymodal.checkpoint.model_directory import json_ready
from polymodal.core.formatting import format_interval, format_score, metric_name, truncate
from polymodal.core.terminal import plain_table, plain_text
from polymodal.tuning.candidate import Candidate
from polymodal.tuning.folds import Folds
from polymodal.tuning.overrides import format_overrides

#: Maximum number of trials in the terminal table; all baselines are shown.
MAX_ROWS = 12


@dataclass(frozen=True)
class LeaderboardEntry:
    """One line of the leaderboard.

    status: `complete`, `pruned` or `baseline`
    overrides: the settings of the trial, by recipe path
    """

    candidate: Candidate
    status: str
    overrides: dict[str, Any]

    def to_dict(self, folds: Folds) -> dict[str, Any]:
        candidate = self.candidate
        values = {key: value for key, value in candidate.to_dict().items() if key != "recipe"}
        score = metric_value(candidate.score, folds)
        return values | {"status": self.status, "overrides": self.overrides, "score": score}


def rank_entries(entries: Sequence[LeaderboardEntry]) -> list[LeaderboardEntry]:
    """Sort entries: those that were run on every fold first, then by score."""

    def sort_key(entry: LeaderboardEntry) -> tuple[bool, bool, float]:
        value = entry.candidate.score
        return (entry.status == "pruned", not np.isfinite(value), -value if np.isfinite(value) else 0.0)

    return sorted(entries, key=sort_key)


def metric_value(value: float, folds: Folds) -> float | None:
    """The score in the direction of the metric (errors are positive); None if undefined."""
    if not np.isfinite(value):
        return None
    return value if folds.metric.greater_is_better else -value


def leaderboard_table(entries: Sequence[LeaderboardEntry], folds: Folds) -> Table:
    """The best trials and all baselines as a terminal table."""
    metric = folds.metric
    trials = [entry for entry in rank_entries(entries) if entry.status != "baseline"]
    baselines = [entry for entry in rank_entries(entries) if entry.status == "baseline"]
    shown = rank_entries([*trials[:MAX_ROWS], *baselines])
    counts = folds.reference.targets(folds.output).counts(folds.tasks[folds.output])
    title = f"{len(folds)} folds, {counts.sentence()}, {metric_name(metric.name)} of {folds.output}"
    if not metric.greater_is_better:
        title += " (lower is better)"
    table = plain_table(title)
    table.add_column("", overflow="fold")
    for heading, width in (("score", 5), ("interval", 14), ("s", 4), ("MiB", 4), ("ms", 4)):
        table.add_column(heading, justify="right", no_wrap=True, min_width=width)
    table.add_column("settings", overflow="fold")
    varying_paths = _varying_paths(trials)
    for entry in shown:
        candidate, overrides = (
            entry.candidate,
            {path: entry.overrides[path] for path in varying_paths if path in entry.overrides},
        )
        results = candidate.metrics.get(folds.output, {}).get(metric.name, {})
        table.add_row(
            plain_text(truncate(candidate.name, 40)),
            plain_text(format_score(metric_value(candidate.score, folds))),
            plain_text(
                format_interval(results.get("low"), results.get("high")) if results.get("low") is not None else ""
            ),
            plain_text(f"{candidate.seconds:.1f}"),
            plain_text(f"{candidate.size_mib:.1f}" if candidate.num_parameters else ""),
            plain_text("" if candidate.latency_ms is None else f"{candidate.latency_ms:.1f}"),
            plain_text(
                f"pruned after {candidate.num_folds} folds" if entry.status == "pruned" else format_overrides(overrides)
            ),
            style="dim" if entry.status == "pruned" else "cyan" if entry.status == "baseline" else "",
        )
    if len(trials) > MAX_ROWS:
        table.caption = f"and {len(trials) - MAX_ROWS} more trials in leaderboard.json"
    return table


def _varying_paths(entries: Sequence[LeaderboardEntry]) -> list[str]:
    """The recipe paths in which the trials differ."""
    results: dict[str, set[str]] = {}
    for entry in entries:
        for path, value in entry.overrides.items():
            results.setdefault(path, set()).add(repr(value))
    return [path for path, values in results.items() if len(values) > 1]


def entries_json(entries: Sequence[LeaderboardEntry], folds: Folds) -> list[dict[str, Any]]:
    """All entries as JSON-compatible values, best first."""
    return [json_ready(entry.to_dict(folds)) for entry in rank_entries(entries)]
