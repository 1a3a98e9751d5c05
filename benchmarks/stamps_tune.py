"""Hyperparameter search for ten minutes: image and caption of stamps to class, from starter weights.

The data and folds are those of `benchmarks.stamps`. The cache of decoded media and features is empty at the start, so
the time includes encoding. Scores are out of fold. The score of the best of many trials is optimistic, so it is
reported with the corrected score.

    python -m benchmarks.stamps_tune FOLDER      # FOLDER: an unpacked package, or where to unpack one
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import Record, run_study
from benchmarks.stamps import fetch, table
from polymodal.tuning.leaderboard import LeaderboardEntry, metric_value
from polymodal.tuning.results import TuningResult
from polymodal.tuning.tune import tune

RECIPE: dict[str, Any] = {
    "inputs": {"picture": "image", "caption": "text"},
    "outputs": {"class": "classification"},
    "data": {"split": {"group_column": "caption"}},
}
SECONDS = 540.0
#: Earlier scores of a linear model on frozen features: the targets of a search.
TARGETS = {"picture": 0.833, "caption": 0.860, "picture + caption": 0.906}


def measure(folder: Path) -> Record:
    """Search once, with two processes, and record the best results for both inputs and for each input."""
    stamps = fetch(folder)
    record = Record(
        name="stamps_tune",
        title="`tune` for ten minutes: stamps of Tux Paint from starter weights",
        method="456 photographs and drawings of 7 classes, five folds grouped by caption; accuracy of each fold. One "
        "search with both inputs and the default space, two processes of one thread, empty caches at the start. "
        "`picture` and `caption` are the best ensembles of all models of one input: baselines on features of the "
        "checkpoint, and networks.",
        unit="accuracy",
        larger_is_better=True,
    )
    with tempfile.TemporaryDirectory() as work_folder:
        os.environ["POLYMODAL_CACHE"] = str(Path(work_folder) / "cache")
        columns = table(stamps)
        began = time.perf_counter()
        out = Path(work_folder) / "found"
        result = tune(columns, "class", recipe=RECIPE, time_limit=SECONDS, jobs=2, out=out, root=stamps, progress=True)
        record.facts["seconds, with encoding and final models"] = round(time.perf_counter() - began)
        _add_results(record, result)
    return record


def _add_results(record: Record, result: TuningResult) -> None:
    by_name = {entry.candidate.name: entry.candidate for entry in result.entries}
    for name in ("picture", "caption"):
        record.values[f"{name} only"] = by_name[f"best of: {name}"].fold_scores
        record.facts[f"{name} only, all rows"] = _with_target(by_name[f"best of: {name}"].score, TARGETS[name])
    record.values["best network"] = result.best.fold_scores
    record.facts["best network, all rows"] = f"{result.best.score:.3f}, corrected {result.corrected['best'].value:.3f}"
    if result.selection is not None:
        record.values["ensemble"] = result.folds.fold_scores(result.selection.distributions)
        corrected = result.corrected["ensemble"]
        record.facts["ensemble, all rows"] = (
            f"{_with_target(result.selection.score, TARGETS['picture + caption'])}; corrected {corrected.value:.3f} "
            f"({corrected.low:.3f} to {corrected.high:.3f}); {len(result.selection.members)} members, "
            f"best member {result.selection.best_single_score:.3f}"
        )
    for kind in ("linear", "ridge", "trees"):
        for name in ("picture", "caption", "picture + caption"):
            one = by_name[f"{kind}: {name}"]
            record.facts[f"baseline {one.name}"] = round(metric_value(one.score, result.folds) or 0.0, 4)
    record.facts["trials"] = _counts(result.entries)
    record.facts["verdicts of the audit"] = "; ".join(
        f"{one.name}: {one.verdict}" for one in result.audit.outputs["class"].inputs
    )


def _with_target(value: float, target: float) -> str:
    return f"{value:.3f} (target: {target})"


def _counts(entries: list[LeaderboardEntry]) -> str:
    completed = sum(entry.status == "complete" for entry in entries)
    return f"{completed} completed, {sum(entry.status == 'pruned' for entry in entries)} pruned"


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
