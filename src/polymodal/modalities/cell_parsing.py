"""Parsing of cells as numbers, and encoding of columns as distinct values."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

# Larger magnitudes do not fit a single-precision number.
MAX_FLOAT32 = float(np.finfo(np.float32).max)


def read_numbers(cells: pa.ChunkedArray | Sequence[Any]) -> tuple[np.ndarray, dict[int, str]]:
    """A column as float64 `[rows]`, NaN if a cell is missing or bad, and the reason for each bad position."""
    if isinstance(cells, pa.ChunkedArray | pa.Array):
        if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
            values = np.array(cells.to_numpy(zero_copy_only=False), dtype=np.float64)
            return _checked(values)
        cells = cells.to_pylist()
    values, bad = np.full(len(cells), np.nan), {}
    for position, cell in enumerate(cells):
        try:
            values[position] = parse_number(cell)
        except ValueError as error:
            bad[position] = str(error)
    values, beyond = _checked(values)
    return values, bad | beyond


def _checked(values: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    beyond = np.abs(values) > MAX_FLOAT32
    bad = {int(at): f"{values[at]:g} is not a finite single-precision number" for at in np.flatnonzero(beyond)}
    return np.where(beyond, np.nan, values), bad


def read_distinct(cells: pa.ChunkedArray | Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
    """A column as codes `[rows]` int64 into a list of values, -1 if null.

    Values of an Arrow column are listed once each, which makes repeats cheap. Python cells are listed unchanged.
    """
    if isinstance(cells, pa.Array):
        cells = pa.chunked_array([cells])
    if not isinstance(cells, pa.ChunkedArray):
        return np.array([-1 if cell is None else at for at, cell in enumerate(cells)], np.int64), list(cells)
    if pa.types.is_nested(cells.type):
        return read_distinct(cells.to_pylist())
    if not pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_encode()
    whole = cells.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], pa.dictionary(pa.int32(), pa.string()))
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, whole.dictionary.to_pylist()


def parse_number(cell: Any) -> float:
    """One cell as a number; NaN if it is null, NaN or blank.

    Raises:
        ValueError: the cell is not a number. A text must be plain: " 3.5 " is a number, "1,234" and "5 kg" are not.
    """
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        text = cell.strip()
        if not text:
            return math.nan
        try:
            if "_" in text:
                raise ValueError
            return float(text)
        except ValueError:
            raise ValueError(f"{cell[:40]!r} is not a number") from None
    if isinstance(cell, numbers.Real | Decimal | np.bool_):
        try:
            return float(cell)
        except (OverflowError, TypeError):
            raise ValueError(f"{str(cell)[:40]} is not a finite single-precision number") from None
    raise ValueError(f"expected a number, not {type(cell).__name__}")
