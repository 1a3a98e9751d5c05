"""`search.json`: the specification of a search, which all its processes read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.checkpoint.model_directory import json_ready, read_json, unsigned, write_signed
from polymodal.checkpoint.reading import parsing
from polymodal.core.errors import DataError, PolymodalError
from polymodal.core.paths import cache_folder
from polymodal.core.record import read_record
from polymodal.core.writing import atomic_path
from polymodal.data.table.table import Table, open_table
from polymodal.experiments.plan import make_plan
from polymodal.recipe.recipe import Recipe
from polymodal.tuning.folds import Folds
from polymodal.tuning.space import SearchSpace

FILE = "search.json"
TABLE = "table.arrow"


@dataclass(frozen=True)
class SearchSpec:
    """The specification of one search, as JSON-compatible values.

    recipe: base recipe of all trials: the user's recipe with all inputs and outputs listed
    space: as in `SearchSpace.read`
    objectives: `score`, `latency`, `memory`, `size` or `seconds`; the first one selects the best recipe
    fingerprint: fingerprint of the table; source, root: path of the table for other processes
    """

    recipe: dict[str, Any]
    space: dict[str, Any]
    folds: int
    seed: int
    objectives: list[str]
    fingerprint: str
    source: str | None = None
    root: str | None = None

    def write(self, folder: Path) -> None:
        """Write `search.json` atomically."""
        write_signed(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> SearchSpec:
        """Read `search.json`. Raise ArtifactError if the folder contains no search, or the file was changed."""
        path = folder / FILE
        values = unsigned(read_json(path), path)
        with parsing(path):
            spec = cls(**values)
            return read_record(cls, asdict(spec), path)

    def difference(self, other: SearchSpec) -> str | None:
        """The first field that differs from another search; None if the searches are the same."""
        mine, theirs = (json_ready(asdict(replace(spec, source=None, root=None))) for spec in (self, other))
        return next((key for key in mine if mine[key] != theirs[key]), None)

    def open(self, table: Table) -> tuple[Folds, SearchSpace]:
        """The folds and the space of this search. The recipe of the folds, which defines the frozen features of the
        baselines, uses the frozen pretrained encoders of the space."""
        space = SearchSpace.read(self.space, Recipe.read(self.recipe))
        return Folds(table, make_plan(table, space.recipe(space.frozen_encoders())).recipe, self.folds), space

    def table(self) -> Table:
        """Open the table in another process."""
        assert self.source is not None
        return open_table(self.source, root=Path(self.root) if self.root else None, cache=cache_folder() / "tables")


def create_or_resume(spec: SearchSpec, folder: Path, shown: Path) -> None:
    """Write `search.json` to a folder, or check that the search in it is the same.

    shown: the folder as the user named it

    Raises:
        PolymodalError: the folder contains another search.
    """
    if (folder / FILE).exists():
        field = spec.difference(SearchSpec.read(folder))
        if field is not None:
            raise PolymodalError(
                f"the search in {shown} has another {field} and cannot be resumed with this one; use the original "
                f"{field}, or choose another directory"
            )
    spec.write(folder)


def share_table(table: Table, data: Any, root: Path | str | None, folder: Path) -> tuple[str, str | None]:
    """The path of the table for other processes, and its root: the original file, or a copy in `folder`.

    Raises:
        DataError: cells are Python objects (images, arrays), which cannot be written to a file; or there are several
            tables.
    """
    if table.data_sets:
        raise DataError("a search of several tables supports only one process (jobs=1)", file=table.name)
    if isinstance(data, str | Path):
        return str(Path(data).resolve()), str(Path(root).resolve()) if root is not None else None
    columns = {}
    for column in table.columns:
        values = table.values(column, np.arange(len(table)))
        if isinstance(values, list):
            raise DataError(
                "the cells are Python objects, which cannot be passed to other processes; write them to files, or "
                "search with one process (jobs=1)",
                column=column,
                file=table.name,
            )
        columns[column] = values
    path = folder / TABLE
    combined = pa.table(columns)
    with (
        atomic_path(path) as part,
        pa.OSFile(str(part), "wb") as file,
        pa.ipc.new_file(file, combined.schema) as writer,
    ):
        writer.write_table(combined)
    return str(path), str(table.root) if table.root is not None else None
