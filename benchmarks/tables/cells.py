"""Cells: one contestant on one fold of one set. Each is a small JSON file, so an interrupted run continues."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.tables.splits import Fold


@dataclass(frozen=True)
class Cell:
    """The result of a contestant on a fold, or the reason why there is none.

    score: the metric of the set; None if the contestant failed
    calibration_bins: of each bin of the confidence, what the calibration error needs (scores.py); None for regression
        and for models without probabilities
    cpu_seconds: processor seconds of the whole process with its children, from its start to its end
    work_cpu_seconds: those of training and prediction, without the start of Python and the imports
    wall_seconds: seconds of the whole process
    memory_mib: peak resident memory of the largest process
    load: load average before the start
    error: the end of the program's output, if it failed or ran out of time
    settings: the recipe keys of a contestant that is Polymodal
    """

    dataset: str
    contestant: str
    seed: int
    fold: int
    train_rows: int
    test_rows: int
    folds: int
    score: float | None = None
    calibration_bins: list[list[float]] | None = None
    cpu_seconds: float = 0.0
    work_cpu_seconds: float | None = None
    wall_seconds: float = 0.0
    memory_mib: float = 0.0
    load: float | None = None
    error: str = ""
    date: str = ""
    version: str = ""
    settings: list[str] = field(default_factory=list)


def cell_path(folder: Path, dataset: str, contestant: str, fold: Fold, folds: int) -> Path:
    """The file of a cell; runs with another number of folds have other files."""
    name = re.sub(r"\W+", "_", contestant)
    return folder / dataset / name / f"{folds}folds-seed{fold.seed}-fold{fold.number}.json"


def write_cell(path: Path, cell: Cell) -> None:
    """Write the file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_text(json.dumps(asdict(cell), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read_cell(path: Path) -> Cell | None:
    """The cell of a file; None: it has not been computed."""
    return Cell(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def read_cells(folder: Path) -> list[Cell]:
    """All cells below a folder, in the order of their names."""
    return [Cell(**json.loads(path.read_text("utf-8"))) for path in sorted(folder.rglob("*fold*-seed*.json"))]
