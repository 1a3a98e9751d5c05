"""`python -m benchmarks.tables`: run the suite of tables, or a part of it, and print the results.

    python -m benchmarks.tables.assets                     # the data, once
    python -m benchmarks.environments aeon autogluon skrub # the other libraries, once
    python -m benchmarks.tables --half development --sets penguins stamps --contestants default "boosted trees" \\
        --seeds 1 --folds 2 --minutes 10                   # a quick look
    python -m benchmarks.tables --sets diamonds --ours "small steps" training.learning_rate=0.0001
    python -m benchmarks.tables --half development --contestants balanced references --record
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.record import RECORDS, run_study
from benchmarks.tables.assets import MissingAsset
from benchmarks.tables.catalog import UnknownSet, find, is_available, of_half, single_inputs
from benchmarks.tables.cells import Cell, read_cells
from benchmarks.tables.dataset import Dataset
from benchmarks.tables.entrants import CONTESTANTS, REFERENCES, Contestant, ours
from benchmarks.tables.noise import planted_names
from benchmarks.tables.protocol import Plan, run
from benchmarks.tables.summary import study, terminal

CELLS = Path("runs/tables")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=("development", "final", "planted", "effort"), default="development")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="default: all sets of the half")
    parser.add_argument(
        "--contestants",
        nargs="+",
        metavar="NAME",
        help=f"{', '.join(CONTESTANTS)}; `references`: all that are not ours",
    )
    parser.add_argument(
        "--ours",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "KEY=VALUE"),
        help="Polymodal with these recipe keys, as a further contestant of this name",
    )
    parser.add_argument("--single", action="store_true", help="mixed sets also with each of their inputs only")
    parser.add_argument("--seeds", type=int, help="at most this many seeds; default: those of each set")
    parser.add_argument("--folds", type=int, help="at most this many folds; default: those of each set")
    parser.add_argument("--minutes", type=float, help="start no cell after this time")
    parser.add_argument("--cell-minutes", type=float, default=30, help="limit of one cell (default: 30)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contestant (default: 1)")
    parser.add_argument("--cells", type=Path, default=CELLS, help=f"folder of the cells (default: {CELLS})")
    parser.add_argument("--show", action="store_true", help="run nothing; show the cells that are there")
    parser.add_argument("--record", action="store_true", help="write the run record of this half")
    chosen = parser.parse_args(arguments)
    try:
        datasets = _datasets(chosen.half, chosen.sets)
        if chosen.single:
            datasets += [one for each in datasets if each.kind == "mixed" for one in single_inputs(each)]
        default = list(CONTESTANTS) if chosen.show else [] if chosen.ours else ["references"]
        contestants = [*(ours(*words) for words in chosen.ours), *_contestants(chosen.contestants or default)]
    except (UnknownSet, MissingAsset, KeyError) as error:
        parser.error(str(error.args[0]))
    folder = chosen.cells / chosen.half
    plan = Plan(
        datasets, contestants, folder, chosen.seeds, chosen.folds, chosen.minutes, chosen.cell_minutes, chosen.threads
    )
    complete = chosen.show or run(plan, _print)
    cells = [cell for cell in read_cells(folder) if _is_in(cell, plan)]
    print(terminal(cells))
    if not complete:
        print("the time is over; the same command continues")
    if chosen.record:
        run_study(study, chosen.half, cells, folder=RECORDS)


def _datasets(half: str, names: list[str] | None) -> list[Dataset]:
    """The named sets, which must be of this half; without names, all of it. `effort` has the sets of both halves, and
    chooses nothing.

    Raises:
        UnknownSet: there is no such set in this half.
        MissingAsset: the data of a named set are not unpacked; without names, of any set.
    """
    halves = ("development", "final") if half == "effort" else (half,)
    known = (
        [find(name) for name in planted_names()]
        if half == "planted"
        else [one for part in halves for one in of_half(part)]
    )
    found = known if names is None else [find(name) for name in names]
    for one in found:
        if half not in ("planted", "effort") and one.half != half:
            raise UnknownSet(f"{one.name} is a set of the half {one.half!r}, not {half!r}")
        if not is_available(one):
            raise MissingAsset(f"the data of {one.name} are not unpacked: python -m benchmarks.tables.assets")
    return found


def _contestants(names: list[str]) -> list[Contestant]:
    expanded = [one for name in names for one in (REFERENCES if name == "references" else (name,))]
    for name in expanded:
        if name not in CONTESTANTS:
            raise KeyError(f"there is no contestant {name!r}; choose from {', '.join(CONTESTANTS)}")
    return [CONTESTANTS[name] for name in dict.fromkeys(expanded)]


def _is_in(cell: Cell, plan: Plan) -> bool:
    """Whether a cell is one of the plan: its set, contestant with settings, seed and number of folds."""
    dataset = next((one for one in plan.datasets if one.name == cell.dataset), None)
    known = any(one.name == cell.contestant and list(one.settings) == cell.settings for one in plan.contestants)
    return dataset is not None and known and cell.folds == plan.folds_of(dataset) and cell.seed < plan.seeds_of(dataset)


def _print(cell: Cell) -> None:
    result = "failed" if cell.score is None else f"{cell.score:.3f}"
    line = cell.error.strip().splitlines()[-1] if cell.error.strip() else ""
    print(
        f"{cell.dataset:18} {cell.contestant:16} seed {cell.seed} fold {cell.fold}  {result}  "
        f"{cell.cpu_seconds:6.1f} s  {cell.memory_mib:5.0f} MiB  {line}",
        flush=True,
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the running contestant as well
    main()
