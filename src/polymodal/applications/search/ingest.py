"""What is added to an index, checked before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.applications.search.rows import BLOCK
from polymodal.core.errors import DataError, did_you_mean
from polymodal.core.paths import cache_folder
from polymodal.data.table.table import Table, open_table


def present_rows(vectors: np.ndarray) -> np.ndarray:
    """Which rows of `vectors [rows, size]` are there: `[rows]` bool, False for rows of nothing but NaN.

    Raises:
        DataError: a row has some numbers that are not finite, or has length 0 and so no direction.
    """
    present = np.empty(len(vectors), bool)
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK], np.float64)
        there = ~np.isnan(block).all(1)
        bad = there & ~np.isfinite(block).all(1)
        if bad.any():
            raise DataError(
                "the vector has numbers that are not finite; only a vector of nothing but NaN stands for a missing one",
                row=start + int(bad.argmax()),
            )
        zero = there & ~block.any(1)
        if zero.any():
            raise DataError("the vector is 0 and has no direction", row=start + int(zero.argmax()))
        present[start : start + BLOCK] = there
    return present


def as_matrix(vectors: Any, size: int | None, what: str) -> np.ndarray:
    """`vectors` as an array `[rows, size]` of floats; one vector is one row.

    Raises:
        DataError: it has another shape or holds no numbers.
    """
    array = np.asanyarray(vectors)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind not in "fiu":
        raise DataError(f"{what} are an array [rows, size] of numbers, not {array.dtype} {list(array.shape)}")
    if size is not None and array.shape[1] != size:
        raise DataError(f"{what} have {array.shape[1]} numbers each; those of the index have {size}")
    return array


def read_metadata(source: Any, rows: int) -> pa.Table | None:
    """The columns to keep, from anything that `open_table` reads.

    Raises:
        DataError: their number of rows is not `rows`, or a column holds Python objects, which no file can keep.
    """
    if source is None:
        return None
    table = source if isinstance(source, Table) else open_table(source, cache=cache_folder() / "tables")
    if len(table) != rows:
        raise DataError(f"there are {rows:,} vectors and {len(table):,} rows of columns to keep", file=table.name)
    return select_metadata(table, table.columns)


def select_metadata(table: Table, names: list[str]) -> pa.Table | None:
    """The columns `names` of `table`, to be kept; None of none.

    Raises:
        DataError: there is no such column (the nearest is given), or it holds Python objects.
    """
    every, found = np.arange(len(table)), {}
    for name in names:
        values = table.values(name, every)
        if isinstance(values, list):
            raise DataError("the cells are Python objects, which an index cannot keep", column=name, file=table.name)
        # a column without any value has no type; only texts can be told from nothing at all
        found[name] = values.cast(pa.string()) if pa.types.is_null(values.type) else values
    return pa.table(found) if found else None


def match_schema(columns: pa.Table | None, schema: pa.Schema | None) -> pa.Table | None:
    """`columns` in the order and the types of those that the index keeps.

    Raises:
        DataError: a column is missing, is not kept by the index, or cannot be brought to its type.
    """
    given, wanted = columns.column_names if columns else [], schema.names if schema else []
    for name in wanted:
        if name not in given:
            raise DataError(f"the index keeps it, and the added rows lack it; {did_you_mean(name, given)}", column=name)
    for name in given:
        if name not in wanted:
            raise DataError(f"the index does not keep it; {did_you_mean(name, wanted)}", column=name)
    if columns is None or schema is None:
        return None
    found = {}
    for field in schema:
        try:
            found[field.name] = columns[field.name].cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"the index keeps it as {field.type}: {error}", column=field.name) from None
    return pa.table(found, schema=schema)
