"""The common interface of models, ensembles, and classifiers on embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.tasks.base import Task


class PredictsRows(Protocol):
    """The interface of `Model`, `Ensemble`, `FewShot` and `ZeroShot`.

    data: any source of `open_table`, or one row as a dict of cells
    root: base folder of media paths in cells
    strict: raise an error at the first unusable cell
    """

    @property
    def tasks(self) -> dict[str, Task]:
        """The task of each output."""

    @property
    def classes(self) -> Any:
        """Names of the columns of `predict_proba`; with several outputs, a dict of lists."""

    def predict(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """The predicted value of each row, in the order of the rows; with several outputs, a dict of lists."""

    def predict_proba(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> Any:
        """Probabilities or numbers `[rows, k]` in the order of `classes`; with several outputs, a dict of arrays."""

    def evaluate(self, data: Any, *, root: Path | str | None = None, strict: bool = False) -> dict[str, Any]:
        """Scores on rows with targets, by output and metric."""

    def open(self, data: Any, root: Path | str | None = None, *, targets: bool = False) -> Table:
        """Open `data` as a table and check that it has the input columns (and target columns)."""

    def stream(self, table: Table, cell_errors: CellErrors) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Row numbers and distributions `[rows, k]` by output, block by block; adds unusable cells to `cell_errors`."""
