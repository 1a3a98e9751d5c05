"""The protocol: every contestant on every fold of every set, interleaved and resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables.cells import Cell, cell_path, read_cell, write_cell
from benchmarks.tables.dataset import Columns, Dataset
from benchmarks.tables.entrants import Contestant
from benchmarks.tables.process import run_cell
from benchmarks.tables.splits import Fold, folds


@dataclass(frozen=True)
class Plan:
    """What to run, and where the cells are.

    seeds, folds: at most this many of those of each set; None: all of them. A smaller number of folds gives other
        splits, and cells of their own.
    minutes: no new cell is started after this time; None: until all are done
    cell_minutes: the limit of one cell
    threads: threads of each contestant
    """

    datasets: list[Dataset]
    contestants: list[Contestant]
    folder: Path
    seeds: int | None = None
    folds: int | None = None
    minutes: float | None = None
    cell_minutes: float = 30
    threads: int = 1

    def folds_of(self, dataset: Dataset) -> int:
        return dataset.folds if self.folds is None else min(self.folds, dataset.folds)

    def seeds_of(self, dataset: Dataset) -> int:
        return dataset.seeds if self.seeds is None else min(self.seeds, dataset.seeds)

    def entered(self, dataset: Dataset, columns: Columns) -> list[Contestant]:
        types = {str(one) for one in dataset.input_types(columns).values()}
        return [one for one in self.contestants if one.reads(dataset, types)]


def todo(plan: Plan, tables: dict[str, Columns]) -> Iterator[tuple[Dataset, Fold, Contestant, Path]]:
    """The cells of the plan that are not finished: without a score, or with other settings.

    All contestants run on a fold before the next fold, and all sets have their first fold before any has its second:
    other load of the machine meets all of them, and a run that is stopped early has something of everything. The order
    of the contestants rotates from fold to fold.
    """
    rounds = max((plan.seeds_of(one) * plan.folds_of(one) for one in plan.datasets), default=0)
    for turn in range(rounds):
        for dataset in plan.datasets:
            count = plan.folds_of(dataset)
            seed, number = divmod(turn, count)
            if seed >= plan.seeds_of(dataset):
                continue
            columns = tables[dataset.name]
            fold = list(folds(dataset, columns, seed, count))[number]
            entered = plan.entered(dataset, columns)
            start = turn % max(1, len(entered))
            for contestant in entered[start:] + entered[:start]:
                path = cell_path(plan.folder, dataset.name, contestant.name, fold, count)
                done = read_cell(path)
                if done is None or done.score is None or done.settings != list(contestant.settings):
                    yield dataset, fold, contestant, path


def run(plan: Plan, report: Callable[[Cell], None] = lambda _: None) -> bool:
    """Compute the cells without a score and write them; `report` is called with each new one.

    Returns whether the plan is complete. Cells that failed are tried again by the next run.

    Raises:
        MissingAsset: the data of a set are not unpacked.
        MissingEnvironment: the environment of a contestant does not exist.
    """
    for contestant in plan.contestants:
        contestant.python()
    tables = {one.name: one.build() for one in plan.datasets}
    start = time.monotonic()
    for dataset, fold, contestant, path in todo(plan, tables):
        if plan.minutes is not None and time.monotonic() - start > 60 * plan.minutes:
            return False
        limits = {"minutes": plan.cell_minutes, "threads": plan.threads}
        count = plan.folds_of(dataset)
        cell = run_cell(contestant, dataset, tables[dataset.name], fold, count, **limits)  # type: ignore[arg-type]
        write_cell(path, cell)
        report(cell)
    return True
