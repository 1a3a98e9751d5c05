"""Check vectors and metadata before they are written to an index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.applications.search.rows import BLOCK_ROWS
from polymodal.core.errors import DataError, did_you_mean
from polymodal.core.paths import cache_folder
from polymodal.data.table.table import Table, open_table


def present_rows(vectors: np.ndarray) -> np.ndarray:
    """`[rows]` bool, False for rows of `vectors [rows, dim]` that are all NaN (missing).

    Raises:
        DataError: a row is partly not finite, or is a zero vector, which has no direction.
    """
    present = np.empty(len(vectors), bool)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = np.asarray(vectors[start : start + BLOCK_ROWS], np.float64)
        is_present = ~np.isnan(block).all(1)
        bad = is_present & ~np.isfinite(block).all(1)
        if bad.any():
            raise DataError(
                "the vector contains values that are not finite; a missing vector must be all NaN",
                row=start + int(bad.argmax()),
            )
        zero = is_present & ~block.any(1)
        if zero.any():
            raise DataError("the vector is a zero vector, which has no direction", row=start + int(zero.argmax()))
        present[start : start + BLOCK_ROWS] = is_present
    return present


def as_matrix(vectors: Any, dim: int | None, what: str) -> np.ndarray:
    """`vectors` as a numeric array `[rows, dim]`; a single vector becomes one row.

    Raises:
        DataError: the array has another shape or is not numeric.
    """
    array = np.asanyarray(vectors)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind not in "fiu":
        raise DataError(f"{what} must be a numeric array [rows, dim], not {array.dtype} {list(array.shape)}")
    if dim is not None and array.shape[1] != dim:
        raise DataError(f"{what} have dimension {array.shape[1]}, but the index has dimension {dim}")
    return array


def read_metadata(source: Any, rows: int) -> pa.Table | None:
    """The metadata columns, from anything that `open_table` reads.

    Raises:
        DataError: the number of rows is not `rows`, or a column contains Python objects, which cannot be stored.
    """
    if source is None:
        return None
    table = source if isinstance(source, Table) else open_table(source, cache=cache_folder() / "tables")
    if len(table) != rows:
        raise DataError(f"there are {rows:,} vectors and {len(table):,} rows of metadata", file=table.name)
    return select_metadata(table, table.columns)


def select_metadata(table: Table, names: list[str]) -> pa.Table | None:
    """The columns `names` of `table` as metadata; None for no columns.

    Raises:
        DataError: there is no such column, or it contains Python objects.
    """
    rows, columns = np.arange(len(table)), {}
    for name in names:
        values = table.values(name, rows)
        if isinstance(values, list):
            raise DataError("the cells are Python objects, which an index cannot store", column=name, file=table.name)
        # a column without any value has no type: store it as text
        columns[name] = values.cast(pa.string()) if pa.types.is_null(values.type) else values
    return pa.table(columns) if columns else None


def match_schema(columns: pa.Table | None, schema: pa.Schema | None) -> pa.Table | None:
    """`columns` in the order and with the types of the metadata columns of the index.

    Raises:
        DataError: a column is missing, is not in the index, or cannot be converted to its type.
    """
    given, expected = columns.column_names if columns else [], schema.names if schema else []
    for name in expected:
        if name not in given:
            raise DataError(
                f"the column is in the index but not in the new rows; {did_you_mean(name, given)}", column=name
            )
    for name in given:
        if name not in expected:
            raise DataError(f"the index has no such metadata column; {did_you_mean(name, expected)}", column=name)
    if columns is None or schema is None:
        return None
    converted = {}
    for field in schema:
        try:
            converted[field.name] = columns[field.name].cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"cannot be converted to {field.type}, the type in the index: {error}", column=field.name
            ) from None
    return pa.table(converted, schema=schema)
