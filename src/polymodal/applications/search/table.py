"""Tables in an index: rows are embedded by a model, and the index remembers which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from polymodal.applications.search.embedding_source import check_input, comparable_inputs, load_source_model, make_source
from polymodal.applications.search.index import Index
from polymodal.applications.search.ingest import select_metadata
from polymodal.core.errors import DataError
from polymodal.core.paths import cache_folder
from polymodal.data.table.table import Table, open_table
from polymodal.model.model import Model


@dataclass(frozen=True)
class IndexOptions:
    """What an index keeps of a table, and how.

    input: the input to embed; None: the whole row, or the one aligned input whose columns the table has
    size: the first so many numbers of an embedding, for models that were trained with shorter sizes
    keep: the columns to show and to filter by; None: all that hold texts, numbers, times, true or false
    method, dtype: as in `Index.build`
    """

    input: str | None = None
    size: int | None = None
    keep: Sequence[str] | None = None
    method: Literal["auto", "exact", "approximate"] = "auto"
    dtype: Literal["float32", "float16"] = "float32"


def index_table(
    data: Any,
    model: Path | str,
    out: Path | str,
    options: IndexOptions | None = None,
    *,
    root: Path | str | None = None,
    strict: bool = False,
    overwrite: bool = False,
) -> tuple[Index, np.ndarray]:
    """Embed every row of a table and write an index of them to `out`.

    data: anything `open_table` reads
    model: a model directory
    options: what is embedded and kept; None: the defaults of `IndexOptions`
    root, strict: as in `Model.predict`; overwrite: as in `Index.build`

    Returns the index, in which a row has its number in the table as its id, and the numbers `[missing]` of the rows
    that lack the input and are not in it.

    Raises:
        ArtifactError: the model cannot be read; `out` is taken.
        DataError: a column is not there, or no row can be embedded.
        RecipeError: the model has no such input, or shorter embeddings.
    """
    wanted = options or IndexOptions()
    loaded = Model.load(model)
    check_input(loaded, wanted.input)
    table = _as_table(data, root)
    kept = select_metadata(table, list(wanted.keep) if wanted.keep is not None else _metadata_columns(table))
    chosen = wanted.input if wanted.input is not None else _input_of(loaded, table)
    vectors = loaded.embed(table, input=chosen, size=wanted.size, strict=strict)
    source = make_source(model, loaded, chosen, wanted.size)
    index = Index.build(
        out, vectors, kept, method=wanted.method, dtype=wanted.dtype, source=source, overwrite=overwrite
    )
    return index, _missing(vectors)


def add_table(
    index: Index, data: Any, *, model: Path | str | None = None, root: Path | str | None = None, strict: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Embed every row of a table as those of `index` were, and add them.

    model: where the model is now; by default where it was when the index was built

    Returns the ids `[rows]` (-1 for rows that lack the input), and the numbers `[missing]` of these rows.

    Raises:
        ArtifactError: the model is not there or is another one; another process is changing the index.
        DataError: a column is not there or has another type.
    """
    loaded, source = load_source_model(index.manifest.source, model)
    table = _as_table(data, root)
    kept = select_metadata(table, index.columns)
    vectors = loaded.embed(table, input=source.input, size=source.size, strict=strict)
    return index.add(vectors, kept), _missing(vectors)


def _as_table(data: Any, root: Path | str | None) -> Table:
    if isinstance(data, Table):
        return data
    return open_table(data, root=Path(root) if root is not None else None, cache=cache_folder() / "tables")


def _input_of(model: Model, table: Table) -> str | None:
    """None, the whole row; or the only aligned input whose columns the table has, where it lacks those of others."""
    if all(column in table.columns for column in model.preparation.input_columns):
        return None
    columns = {name: model.preparation.modalities[name].columns for name in comparable_inputs(model, None)}
    there = [name for name, own in columns.items() if all(column in table.columns for column in own)]
    if len(there) > 1:
        raise DataError(
            f"the table has the columns of the inputs {', '.join(there)}, not of all; choose one (--input {there[0]})",
            file=table.name,
        )
    return there[0] if there else None


def _metadata_columns(table: Table) -> list[str]:
    """The columns whose cells can be shown in a line and compared."""
    types = pa.types
    tests = (types.is_string, types.is_integer, types.is_floating, types.is_boolean, types.is_temporal, types.is_null)
    kinds = {name: table.column_type(name) for name in table.columns}
    return [name for name, kind in kinds.items() if kind is not None and any(test(kind) for test in tests)]


def _missing(vectors: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isnan(vectors).all(1))
