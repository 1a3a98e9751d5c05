"""`search.json`: the specification of a search, which all its processes read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.checkpoint.model_directory import json_ready, read_json, unsigned, write_signed
from polymodal.checkpoint.reading import parsing
from polymodal.core.errors import DataError, PolymodalError, RecipeError
from polymodal.core.paths import cache_folder, media_cache_folder
from polymodal.core.record import read_record
from polymodal.core.writing import atomic_path
from polymodal.data.objects import as_root
from polymodal.data.table.locations import is_address
from polymodal.data.table.table import Table, open_table
from polymodal.experiments.plan import make_plan
from polymodal.experiments.stored_inputs import StoredInputs
from polymodal.preparation.prepared_store import PreparedStore
from polymodal.recipe.recipe import Recipe
from polymodal.tuning.folds import Folds
from polymodal.tuning.space import SearchSpace
from polymodal.tuning.storage import JOURNAL, STUDY_NAME, StudyStorage

FILE = "search.json"
TABLE = "table.arrow"


@dataclass(frozen=True)
class SearchSpec:
    """The specification of one search, as JSON-compatible values.

    recipe: base recipe of all trials: the user's recipe with all inputs and outputs listed
    space: as in `SearchSpace.read`
    objectives: `score`, `latency`, `memory`, `size` or `seconds`; the first one selects the best recipe
    fingerprint: fingerprint of the table; source, root: path of the table for other processes
    prepared: path of a store of prepared rows of the table
    storage, study: the database with the trials, without its password, and the name of the search in it
    """

    recipe: dict[str, Any]
    space: dict[str, Any]
    folds: int
    seed: int
    objectives: list[str]
    fingerprint: str
    source: str | None = None
    root: str | None = None
    prepared: str | None = None
    storage: str | None = None
    study: str = STUDY_NAME

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
        same: dict[str, Any] = {"source": None, "root": None, "prepared": None, "storage": None, "study": ""}
        mine, theirs = (json_ready(asdict(replace(spec, **same))) for spec in (self, other))
        return next((key for key in mine if mine[key] != theirs[key]), None)

    def open(self, table: Table) -> tuple[Folds, SearchSpace]:
        """The folds and the space of this search. The recipe of the folds, which defines the frozen features of the
        baselines, uses the frozen pretrained encoders of the space."""
        space = SearchSpace.read(self.space, Recipe.read(self.recipe))
        base = space.recipe(space.frozen_encoders)
        recipe, stored = make_plan(table, base, estimators=bool(base.members)).recipe, None
        if self.prepared is not None:
            stored = StoredInputs(PreparedStore.open(self.prepared), table, media_cache_folder())
            stored.check(recipe)
        return Folds(table, recipe, self.folds, stored), space

    def record(self, folder: Path, url: str | None) -> StudyStorage:
        """The record of the trials.

        url: of the database, with the password; None for a journal

        Raises:
            RecipeError: the search has a database and there is no URL, or the other way round.
        """
        if (url is None) != (self.storage is None):
            place = self.storage or f"{JOURNAL} in its folder"
            raise RecipeError("storage", f"the trials of this search are in {place}; give the storage it began with")
        return StudyStorage(folder, url, self.study)

    def table(self) -> Table:
        """Open the table in another process."""
        assert self.source is not None
        return open_table(self.source, root=as_root(self.root), cache=cache_folder() / "tables")


def create_or_resume(spec: SearchSpec, folder: Path, shown: Path) -> SearchSpec:
    """Write `search.json` to a folder, or check that the search in it is the same. Returns what was written.

    shown: the folder as the user named it

    Raises:
        PolymodalError: the folder contains another search.
    """
    if (folder / FILE).exists():
        found = SearchSpec.read(folder)
        field = spec.difference(found)
        if field is not None:
            raise PolymodalError(
                f"the search in {shown} has another {field} and cannot be resumed with this one; use the original "
                f"{field}, or choose another directory"
            )
        found.record(folder, spec.storage)
        spec = replace(spec, study=found.study)
    spec.write(folder)
    return spec


def share_table(table: Table, data: Any, root: Path | str | None, folder: Path) -> tuple[str, str | None]:
    """The path of the table for other processes, and its root: the original file, or a copy in `folder`.

    Raises:
        DataError: cells are Python objects (images, arrays), which cannot be written to a file; or there are several
            tables.
    """
    if table.data_sets:
        raise DataError("a search of several tables supports only one process (jobs=1)", file=table.name)
    if isinstance(data, str) and is_address(data):
        return data, None if table.root == table.folder else str(table.root)
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
