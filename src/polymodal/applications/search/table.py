"""Build and extend an index from the rows of a table, embedded by a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from polymodal.applications.search.embedding_source import (
    check_input,
    comparable_inputs,
    load_source_model,
    make_source,
)
from polymodal.applications.search.index import Index
from polymodal.applications.search.ingest import select_metadata
from polymodal.checkpoint.directory_kinds import INDEX
from polymodal.checkpoint.output_directory import OutputDirectory
from polymodal.checkpoint.output_file import paths_in
from polymodal.core.errors import DataError
from polymodal.core.paths import cache_folder
from polymodal.data.objects import as_root
from polymodal.data.table.table import Table, open_table
from polymodal.model.model import Model


@dataclass(frozen=True)
class IndexOptions:
    """Options of an index of a table.

    input: the input to embed; default: the whole row, or the only aligned input whose columns are in the table
    dim: number of leading dimensions to keep, for models that were trained with Matryoshka dimensions; default: all
    metadata: columns to store for display and filters; default: all columns with texts, numbers, times or booleans
    method, dtype: as in `Index.build`
    """

    input: str | None = None
    dim: int | None = None
    metadata: Sequence[str] | None = None
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
    options: default: `IndexOptions()`
    root, strict: as in `Model.predict`; overwrite: as in `Index.build`

    Returns the index, whose row ids are the row numbers of the table, and the numbers `[missing]` of the rows without
    the input, which are not in the index.

    Raises:
        ArtifactError: the model cannot be loaded.
        OutputError: as `Index.build`.
        DataError: a column is missing, or no row can be embedded.
        RecipeError: the model has no such input, or fewer dimensions.
    """
    options = options or IndexOptions()
    OutputDirectory(Path(out), INDEX, overwrite, inputs=paths_in(data, model)).check()
    loaded = Model.load(model)
    check_input(loaded, options.input)
    table = _as_table(data, root)
    metadata = select_metadata(
        table, list(options.metadata) if options.metadata is not None else _metadata_columns(table)
    )
    input = options.input if options.input is not None else _input_of(loaded, table)
    vectors = loaded.embed(table, input=input, dim=options.dim, strict=strict)
    source = make_source(model, loaded, input, options.dim)
    index = Index.build(
        out, vectors, metadata, method=options.method, dtype=options.dtype, source=source, overwrite=overwrite
    )
    return index, _missing(vectors)


def add_table(
    index: Index, data: Any, *, model: Path | str | None = None, root: Path | str | None = None, strict: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Embed every row of a table with the model of `index`, and add the rows to it.

    model: directory of the model; default: its directory when the index was built

    Returns the ids `[rows]` (-1 for rows without the input), and the numbers `[missing]` of the rows without the input.

    Raises:
        ArtifactError: the directory does not contain the model.
        OutputError: another process is changing the index.
        DataError: a column is missing or has another type.
    """
    loaded, source = load_source_model(index.manifest.source, model)
    table = _as_table(data, root)
    metadata = select_metadata(table, index.columns)
    vectors = loaded.embed(table, input=source.input, dim=source.dim, strict=strict)
    return index.add(vectors, metadata), _missing(vectors)


def _as_table(data: Any, root: Path | str | None) -> Table:
    if isinstance(data, Table):
        return data
    return open_table(data, root=as_root(root), cache=cache_folder() / "tables")


def _input_of(model: Model, table: Table) -> str | None:
    """None for the whole row, or the only aligned input whose columns are in the table if it lacks other inputs."""
    if all(column in table.columns for column in model.preparation.input_columns):
        return None
    columns = {name: model.preparation.modalities[name].columns for name in comparable_inputs(model, None)}
    available = [
        name for name, input_columns in columns.items() if all(column in table.columns for column in input_columns)
    ]
    if len(available) > 1:
        raise DataError(
            f"the table has only the columns of the inputs {', '.join(available)}; choose one (--input {available[0]})",
            file=table.name,
        )
    return available[0] if available else None


def _metadata_columns(table: Table) -> list[str]:
    """The columns whose cells can be displayed and compared."""
    types = pa.types
    tests = (types.is_string, types.is_integer, types.is_floating, types.is_boolean, types.is_temporal, types.is_null)
    kinds = {name: table.column_type(name) for name in table.columns}
    return [name for name, kind in kinds.items() if kind is not None and any(test(kind) for test in tests)]


def _missing(vectors: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isnan(vectors).all(1))
