"""`python -m benchmarks.same_weights OLD NEW`: compare the numbers of two checkouts of this repository.

Each checkout trains tiny models of every kind with the same seed, in one process, on one thread. Their saved tensors,
metrics, histories and predictions must be equal to the last bit; names of tensors and files may differ. Each checkout
runs its own cases, matched by their order, so that names of recipe keys may differ too. Compare a checkout with itself
first: a case that is not equal to itself is not informative.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.same_weights.cases import Case, all_cases
from benchmarks.same_weights.compare import KINDS, CaseComparison, compare
from benchmarks.same_weights.tables import write_easy_vqa, write_tables
from benchmarks.same_weights.worker import file_stem, missing

#: Rows of each split of the demo, without `--whole-demo`.
DEMO_ROWS = 256


def main(arguments: list[str] | None = None) -> int:
    """Compare two checkouts and print a table; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_weights", description=__doc__)
    parser.add_argument("old", type=Path, help="a checkout of this repository")
    parser.add_argument("new", type=Path, help="another checkout, or the same")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="cases by name, such as 'fusion/*'")
    parser.add_argument("--whole-demo", action="store_true", help="the demo on all rows, for all epochs")
    parser.add_argument("--list", action="store_true", help="list the cases and run none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the comparison to this file")
    chosen = parser.parse_args(arguments)
    cases = chosen_cases(all_cases(whole_demo=chosen.whole_demo), chosen.only)
    if not cases:
        parser.error(f"there is no case {chosen.only!r}")
    if chosen.list:
        print("\n".join(case.name for case in cases))
        return 0
    for case in [case for case in cases if missing(case)]:
        print(f"{case.name} is skipped: {', '.join(missing(case))} is not installed", file=sys.stderr)
    cases = [case for case in cases if not missing(case)]
    with TemporaryDirectory(prefix="same-weights-") as folder:
        compared = compare_checkouts(chosen.old, chosen.new, cases, Path(folder), whole_demo=chosen.whole_demo)
    print(show(compared))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(one) for one in compared], indent=1), encoding="utf-8")
    return int(not all(one.same for one in compared))


def chosen_cases(cases: Sequence[Case], pattern: str) -> list[Case]:
    """The cases whose names match the pattern, and the cases that they start from."""
    names = {case.name for case in cases if fnmatch.fnmatch(case.name, pattern)}
    names |= {case.start for case in cases if case.name in names and case.start}
    return [case for case in cases if case.name in names]


def compare_checkouts(
    old: Path, new: Path, cases: Sequence[Case], folder: Path, *, whole_demo: bool = False
) -> list[CaseComparison]:
    """Run the cases from both checkouts, with all their files in `folder`."""
    data = folder / "data"
    data.mkdir()
    write_tables(data)
    demo = any(case.name == "demo" for case in cases)
    roots = {"demo": str(write_easy_vqa(data, None if whole_demo else DEMO_ROWS))} if demo else {}
    job = {"data": str(data), "roots": roots, "whole_demo": whole_demo, "cases": [case.name for case in cases]}
    positions = [number for number, case in enumerate(all_cases(whole_demo=whole_demo)) if case in cases]
    results = []
    for side, checkout in (("old", old), ("new", new)):
        out = folder / side
        out.mkdir()
        names = case_names(checkout.resolve())
        own = [names[number] for number in positions]
        run_checkout(checkout.resolve() / "src", out, {**job, "cases": own})
        results.append([_read(out / f"{file_stem(name)}.json") for name in own])
    return [compare(case.name, *runs) for case, *runs in zip(cases, *results, strict=True)]


def case_names(checkout: Path) -> list[str]:
    """The names of all cases of a checkout. Their order is the same in every checkout."""
    command = [sys.executable, "-m", "benchmarks.same_weights", ".", ".", "--list"]
    environment = {**os.environ, "PYTHONPATH": f"{checkout}:{checkout / 'src'}"}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def run_checkout(source: Path, out: Path, job: dict[str, Any]) -> None:
    """Run the cases of a job in a process of its own that imports Polymodal from `source`; its caches are empty at the
    start."""
    if not (source / "polymodal").is_dir():
        raise SystemExit(f"{source.parent} is not a checkout of this repository: it has no src/polymodal")
    file = out / "job.json"
    file.write_text(json.dumps({**job, "source": str(source), "out": str(out)}), encoding="utf-8")
    fixed = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "0"}
    environment = {
        **os.environ,
        **fixed,
        "PYTHONPATH": f"{source.parent}:{source}",
        "POLYMODAL_CACHE": str(out / "cache"),
    }
    print(f"running {len(job['cases'])} cases of {source.parent}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.same_weights.worker", str(file)]
    subprocess.run(command, cwd=source.parent, env=environment, check=False)  # a missing result is reported


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def show(compared: Sequence[CaseComparison]) -> str:
    """The comparison as a table, and the first difference of each different case."""
    head = ["case", "tensors", "equal weights", "equal metrics", "equal predictions", "s old", "s new"]
    rows = [head]
    for one in compared:
        verdicts = [_verdict(one, kind) for kind in KINDS]
        rows.append([one.case, str(one.count), *verdicts, *(f"{seconds:.1f}" for seconds in one.seconds)])
    total = [sum(one.seconds[side] for one in compared) for side in (0, 1)]
    rows.append(["all", str(sum(one.count for one in compared)), "", "", "", *(f"{seconds:.1f}" for seconds in total)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    different = [one for one in compared if not one.same]
    lines += [f"{one.case} differs: {one.first}" for one in different]
    lines.append(f"{len(different)} of {len(compared)} cases differ" if different else "everything is equal")
    return "\n".join(lines)


def _verdict(one: CaseComparison, kind: str) -> str:
    return ("yes, renamed" if kind in one.renamed else "yes") if one.equal[kind] else "NO"


if __name__ == "__main__":
    sys.exit(main())
