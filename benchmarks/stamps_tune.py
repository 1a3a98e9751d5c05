"""What a search finds in ten minutes: picture and caption of stamps to class, from starter weights.

The data and folds are those of `benchmarks.stamps`. The cache of decoded media and features is empty at the beginning,
so encoding is in the time. Scores are out of fold; that of the best of many trials flatters it, so the corrected one
stands beside it.

    python -m benchmarks.stamps_tune FOLDER      # FOLDER: an unpacked package, or where to unpack it
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
#: Scores of frozen features with a linear model that were measured before: what a search should reach.
FLOORS = {"picture": 0.833, "caption": 0.860, "picture + caption": 0.906}


def measure(folder: Path) -> Record:
    """Search once, with two processes, and set down what was found for both inputs and for each."""
    stamps = fetch(folder)
    record = Record(
        name="stamps_tune",
        title="What `tune` finds in ten minutes: stamps of Tux Paint from starter weights",
        method="456 photographs and drawings of 7 classes, five folds grouped by caption; accuracy of each fold. One "
        "search of both inputs with the default space, two processes of one thread, empty caches at the beginning. "
        "`picture` and `caption` are the best ensembles of everything that read only one input: baselines on features "
        "of the checkpoint, and networks.",
        unit="accuracy",
        larger_is_better=True,
    )
    with tempfile.TemporaryDirectory() as place:
        os.environ["POLYMODAL_CACHE"] = str(Path(place) / "cache")
        columns = table(stamps)
        begun = time.perf_counter()
        out = Path(place) / "found"
        found = tune(columns, "class", recipe=RECIPE, time_limit=SECONDS, jobs=2, out=out, root=stamps, progress=True)
        record.facts["seconds, with encoding and final models"] = round(time.perf_counter() - begun)
        _set_down(record, found)
    return record


def _set_down(record: Record, found: TuningResult) -> None:
    by_name = {entry.candidate.name: entry.candidate for entry in found.entries}
    for name in ("picture", "caption"):
        record.values[f"{name} alone"] = by_name[f"best of: {name}"].fold_scores
        record.facts[f"{name} alone, all rows"] = _beside(by_name[f"best of: {name}"].score, FLOORS[name])
    record.values["best network"] = found.best.fold_scores
    record.facts["best network, all rows"] = f"{found.best.score:.3f}, corrected {found.corrected['best'].value:.3f}"
    if found.selection is not None:
        record.values["ensemble"] = found.folds.fold_scores(found.selection.distributions)
        corrected = found.corrected["ensemble"]
        record.facts["ensemble, all rows"] = (
            f"{_beside(found.selection.score, FLOORS['picture + caption'])}; corrected {corrected.value:.3f} "
            f"({corrected.low:.3f} to {corrected.high:.3f}); {len(found.selection.members)} members, "
            f"best of them {found.selection.best:.3f}"
        )
    for kind in ("linear", "ridge", "trees"):
        for name in ("picture", "caption", "picture + caption"):
            one = by_name[f"{kind}: {name}"]
            record.facts[f"baseline {one.name}"] = round(metric_value(one.score, found.folds) or 0.0, 4)
    record.facts["trials"] = _counts(found.entries)
    record.facts["verdicts of the audit"] = "; ".join(
        f"{one.name}: {one.verdict}" for one in found.audit.outputs["class"].inputs
    )


def _beside(value: float, floor: float) -> str:
    return f"{value:.3f} (asked for: {floor})"


def _counts(entries: list[LeaderboardEntry]) -> str:
    whole = sum(entry.status == "complete" for entry in entries)
    return f"{whole} run on every fold, {sum(entry.status == 'pruned' for entry in entries)} cut short"


if __name__ == "__main__":
    run_study(measure, Path(sys.argv[1]))
