"""What a search is: everything that a process needs to work on it, in one file of its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.checkpoint.model_directory import json_ready, read_json
from polymodal.core.errors import ArtifactError, DataError, PolymodalError
from polymodal.core.paths import cache_folder
from polymodal.data.table.table import Table, open_table
from polymodal.experiments.plan import make_plan
from polymodal.recipe.recipe import Recipe
from polymodal.tuning.folds import Folds
from polymodal.tuning.space import SearchSpace

FILE = "search.json"
TABLE = "table.arrow"


@dataclass(frozen=True)
class SearchSpec:
    """One search, JSON-ready.

    recipe: what every trial starts from: the user's recipe with every input and output named
    space: as `Space.read` takes it
    objectives: `score`, `latency`, `size` or `seconds`, the first decides what is best
    fingerprint: of the table; source, root: where other processes read it
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
        part = folder / f"{FILE}.part"
        part.write_text(json.dumps(json_ready(asdict(self)), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        part.replace(folder / FILE)

    @classmethod
    def read(cls, folder: Path) -> SearchSpec:
        """Raises ArtifactError where the folder holds no search."""
        try:
            return cls(**read_json(folder / FILE))
        except TypeError as error:
            raise ArtifactError(f"{folder / FILE} is damaged: {error}") from None

    def same_as(self, other: SearchSpec) -> str | None:
        """What differs in another search so that its trials are none of this one; None where nothing does."""
        mine, theirs = (json_ready(asdict(replace(one, source=None, root=None))) for one in (self, other))
        return next((key for key in mine if mine[key] != theirs[key]), None)

    def open(self, table: Table) -> tuple[Folds, SearchSpace]:
        """The folds and the space of this search. The recipe of the folds, from which baselines take their features,
        has the pretrained encoders that the space offers."""
        space = SearchSpace.read(self.space, Recipe.read(self.recipe))
        return Folds(table, make_plan(table, space.recipe(space.fixed_encoders())).recipe, self.folds), space

    def table(self) -> Table:
        """The table, in a process that was not handed it."""
        assert self.source is not None
        return open_table(self.source, root=Path(self.root) if self.root else None, cache=cache_folder() / "tables")


def create_or_resume(job: SearchSpec, folder: Path, *, resume: bool) -> SearchSpec:
    """Write the search into its folder, or find it there again.

    Raises:
        PolymodalError: there is one already and it is not to be resumed, or it is another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / FILE).exists():
        if not resume:
            raise PolymodalError(f"{folder} holds a search already: resume it, or choose another directory")
        differs = job.same_as(SearchSpec.read(folder))
        if differs is not None:
            raise PolymodalError(
                f"the search in {folder} has another {differs}, so its trials cannot be gone on with: give what it was "
                "started with, or choose another directory"
            )
    elif any(folder.iterdir()):
        raise PolymodalError(f"{folder} is not empty and holds no search: choose another directory")
    job.write(folder)
    return job


def share_table(table: Table, data: Any, root: Path | str | None, folder: Path) -> tuple[str, str | None]:
    """Where other processes read the table, and its root: its own file, or a copy in `folder`.

    Raises:
        DataError: cells are Python objects (pictures, arrays), which no file holds; or there are several tables.
    """
    if table.data_sets:
        raise DataError("several tables are searched with one process alone", file=table.name)
    if isinstance(data, str | Path):
        return str(Path(data).resolve()), str(Path(root).resolve()) if root is not None else None
    columns = {}
    for column in table.columns:
        values = table.values(column, np.arange(len(table)))
        if isinstance(values, list):
            raise DataError(
                "its cells are Python objects, which other processes cannot be given: write files and name them, or "
                "search with one process",
                column=column,
                file=table.name,
            )
        columns[column] = values
    path = folder / TABLE
    whole = pa.table(columns)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, whole.schema) as writer:
        writer.write_table(whole)
    return str(path), str(table.root) if table.root is not None else None
