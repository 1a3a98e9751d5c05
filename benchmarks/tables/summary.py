"""The results of a run as tables, and as a run record."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.record import Record
from benchmarks.tables.catalog import find
from benchmarks.tables.cells import Cell
from benchmarks.tables.entrants import group_of
from benchmarks.tables.paired import compare_sets
from benchmarks.tables.results import BEST_SCRIPT, Results
from benchmarks.tables.scores import chance_calibration_error, expected_calibration_error

Table = list[list[str]]
FIELDS = ("score", "cpu_seconds", "work_cpu_seconds", "wall_seconds", "memory_mib")
TITLES = {
    "development": "Small and mixed tables: the sets that chose defaults",
    "final": "Small and mixed tables: the sets that were looked at once",
    "planted": "Small and mixed tables: columns of noise",
    "effort": "Small and mixed tables: fast, balanced and best on the same folds",
}
METHOD = (
    "Repeated cross-validation, the same folds for all contestants, which alternate. Each contestant trains and "
    "predicts in a fresh process with one thread; processor seconds are those of the whole process with its children, "
    "with imports; memory is the peak of the largest process. Scores are accuracy, balanced accuracy or R2 of the test "
    "rows. The reference of a set is the best of its scripts, by the same scores. p is that of the corrected resampled "
    "t-test of Nadeau and Bengio; over all sets, that of Wilcoxon's signed-rank test. Calibration is the expected "
    "calibration error over 15 bins of the test rows of all folds together. The script of mixed tables averages trees, "
    "TF-IDF and frozen features."
)
#: What was changed after a half had been looked at, which its record does not have.
CHANGED_AFTERWARDS = {
    "final": "time series have up to 4,096 steps by default, where this run averaged those of more than 1,024 (acsf1)",
}


def tables(results: Results) -> dict[str, Table]:
    """The tables by title; those without rows are left out."""
    made = {
        "Scores": _matrix(results, lambda dataset, name: _shown(results.mean(dataset, name), 3)),
        "Against the best script": _against(results),
        "Over all sets": _overall(results),
        "Best against balanced": _efforts(results),
        "All inputs against the best single one": _inputs(results),
        "Noise columns: difference from the set without them": _noise(results),
        "Processor seconds": _matrix(
            results, lambda dataset, name: _shown(results.mean(dataset, name, "cpu_seconds"), 1)
        ),
        "Expected calibration error, and that of perfect probabilities by chance": _matrix(
            results, lambda dataset, name: _calibration(results, dataset, name)
        ),
        "Spread of the seeds": _matrix(results, lambda dataset, name: _shown(results.seed_spread(dataset, name), 3)),
        "Failed": [["set", "contestant", "seed", "fold", "reason"], *map(_failure, results.failed)],
    }
    return {title: table for title, table in made.items() if len(table) > 1}


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _p_value(value: float) -> str:
    """Empty if there is none, as with one fold."""
    return "" if math.isnan(value) else f"{value:.2g}"


def _matrix(results: Results, cell: Callable[[str, str], str]) -> Table:
    """A row for each set and a column for each contestant; empty rows and columns are left out."""
    rows = {dataset: [cell(dataset, name) for name in results.contestants] for dataset in results.datasets}
    rows = {dataset: cells for dataset, cells in rows.items() if any(cells)}
    kept = [index for index in range(len(results.contestants)) if any(cells[index] for cells in rows.values())]
    head = ["set", "rows", *(results.contestants[index] for index in kept)]
    return [head, *([name, _size(results, name), *(cells[i] for i in kept)] for name, cells in rows.items())]


def _calibration(results: Results, dataset: str, name: str) -> str:
    bins = results.calibration_bins(dataset, name)
    return "" if bins is None else f"{expected_calibration_error(bins):.3f} ({chance_calibration_error(bins):.3f})"


def _size(results: Results, dataset: str) -> str:
    cells = next(cells for (name, _), cells in results.cells.items() if name == dataset)
    first = next(iter(cells.values()))
    return f"{first.train_rows + first.test_rows:,}"


def _against(results: Results) -> Table:
    head = ["set", "contestant", "score", "best script", "score", "difference", "p", "folds", "CPU s", "script's"]
    rows = []
    for dataset in results.datasets:
        script = results.best_script(dataset)
        for name in (*results.of_group("ours"), *results.of_group("library")):
            found = script and results.difference(dataset, name, script)
            if script and found:
                scores = [_shown(results.mean(dataset, one), 3) for one in (name, script)]
                costs = [_shown(results.mean(dataset, one, "cpu_seconds"), 1) for one in (name, script)]
                shown = [f"{found.mean:+.3f}", _p_value(found.p_value), str(found.folds), *costs]
                rows.append([dataset, name, scores[0], script, scores[1], *shown])
    return [head, *rows]


def _overall(results: Results) -> Table:
    head = ["contestant", "mean rank", "sets", "above the best script", "not significantly below", "p over sets"]
    ranks, rows = results.ranks(), []
    for name in sorted(ranks, key=lambda one: ranks[one]):
        one = results.standing(name) if name != BEST_SCRIPT and group_of(name) in ("ours", "library") else None
        if one is not None and one.sets:
            counts = [str(one.sets), str(one.better), str(one.not_below), f"{one.p_value:.2g}"]
            rows.append([name, f"{one.rank:.2f}", *counts])
        else:
            rows.append([name, f"{ranks[name]:.2f}", "", "", "", ""])
    return [head, *rows]


def _efforts(results: Results) -> Table:
    """What `best` adds to `balanced` on each set, and over the sets."""
    head = ["set", "balanced", "best", "difference", "p", "folds", "CPU s", "times as much"]
    rows, means = [], []
    for dataset in results.datasets:
        found = results.difference(dataset, "best", "balanced")
        if found is None:
            continue
        scores = [results.mean(dataset, name) or 0.0 for name in ("balanced", "best")]
        costs = [results.mean(dataset, name, "cpu_seconds") or 0.0 for name in ("balanced", "best")]
        means.append(scores)
        shown = [f"{found.mean:+.3f}", _p_value(found.p_value), str(found.folds)]
        rows.append([dataset, *(_shown(one, 3) for one in scores), *shown, f"{costs[1]:.1f}", _ratio(costs)])
    if rows:
        p = compare_sets([best for _, best in means], [balanced for balanced, _ in means])
        rows.append(["all sets", "", "", f"{sum(b - a for a, b in means) / len(means):+.3f}", _p_value(p), "", "", ""])
    return [head, *rows]


def _ratio(costs: list[float]) -> str:
    return f"{costs[1] / costs[0]:.1f}" if costs[0] else ""


def _inputs(results: Results) -> Table:
    head = ["set", "contestant", "all inputs", "best input", "score", "difference", "p"]
    rows = []
    for dataset in results.datasets:
        for name in results.contestants:
            single = results.best_single_input(dataset, name)
            found = single and results.difference(dataset, name, name, single)
            if single and found:
                scores = [_shown(results.mean(one, name), 3) for one in (dataset, single)]
                shown = [single.partition(":")[2], scores[1], f"{found.mean:+.3f}", _p_value(found.p_value)]
                rows.append([dataset, name, scores[0], *shown])
    return [head, *rows]


def _noise(results: Results) -> Table:
    head = ["set", "contestant", "without", "with", "difference", "p"]
    rows = []
    for dataset in results.datasets:
        base, plus, _ = dataset.partition("+")
        for name in results.contestants if plus else ():
            found = results.difference(dataset, name, name, base)
            if found:
                scores = [_shown(results.mean(one, name), 3) for one in (base, dataset)]
                rows.append([dataset, name, *scores, f"{found.mean:+.3f}", _p_value(found.p_value)])
    return [head, *rows]


def _noise_differences(results: Results, name: str) -> list[float]:
    """The difference of the score with columns of noise from that without them, of each set with noise."""
    pairs = [(one, one.partition("+")[0]) for one in results.datasets if "+" in one]
    found = [results.difference(noisy, name, name, base) for noisy, base in pairs]
    return [one.mean for one in found if one]


def _failure(cell: Cell) -> list[str]:
    reason = cell.error.strip().splitlines()[-1][:160] if cell.error.strip() else ""
    return [cell.dataset, cell.contestant, str(cell.seed), str(cell.fold), reason.replace("|", "/")]


def terminal(cells: list[Cell]) -> str:
    """The tables with aligned columns."""
    lines = []
    for title, table in tables(Results(cells)).items():
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines += ["", title]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
    return "\n".join(lines)


def study(half: str, cells: list[Cell]) -> Record:
    """The record of a half: the mean ranks over its sets (or the differences by noise), the tables, and the
    measurements of every fold."""
    results = Results(cells)
    record = Record(
        name=f"tables_{half}",
        title=TITLES[half],
        method=METHOD,
        unit="difference of the score" if half == "planted" else "mean rank over the sets",
        larger_is_better=half == "planted",
        tables=tables(results),
    )
    if half == "planted":
        record.values = {name: _noise_differences(results, name) for name in results.of_group("ours")}
    else:
        record.values = {name: [rank] for name, rank in results.ranks().items()}
    record.facts["repetitions (seeds x folds)"] = {one: _repetitions(results, one) for one in results.datasets}
    own = [cell.version for cell in cells if group_of(cell.contestant) == "ours"]
    record.facts["versions of Polymodal"] = sorted(set(own))
    if half in CHANGED_AFTERWARDS:
        record.facts["changed after this run"] = CHANGED_AFTERWARDS[half]
    record.facts["metrics"] = {one: find(one).metric for one in results.datasets}
    record.measurements = {
        f"{dataset}, {name}": {
            field: " ".join(f"{value:.5g}" for value in results.values(dataset, name, field)) for field in FIELDS
        }
        for dataset, name in results.cells
    }
    return record


def _repetitions(results: Results, dataset: str) -> str:
    folds = {fold for (name, _), cells in results.cells.items() if name == dataset for fold in cells}
    return f"{len({seed for seed, _ in folds})} x {len({number for _, number in folds})}"
