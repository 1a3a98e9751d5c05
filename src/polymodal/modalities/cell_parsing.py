"""Parsing of cells as numbers and labels, and encoding of columns as distinct values."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from polymodal.data.table.cell_kinds import number_value, plain_text
from polymodal.data.table.number_format import PLAIN, NumberFormat

T = TypeVar("T")

# Larger magnitudes do not fit a single-precision number.
MAX_FLOAT32 = float(np.finfo(np.float32).max)


def read_numbers(
    cells: pa.ChunkedArray | Sequence[Any], format: NumberFormat = PLAIN
) -> tuple[np.ndarray, dict[int, str]]:
    """A column as float64 `[rows]`, NaN if a cell is missing or bad, and the reason for each bad position.

    format: how texts are read as numbers
    """
    if isinstance(cells, pa.ChunkedArray | pa.Array):
        if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
            values = np.array(cells.to_numpy(zero_copy_only=False), dtype=np.float64)
            return _checked(values)
        cells = cells.to_pylist()
    values, bad = np.full(len(cells), np.nan), {}
    for position, cell in enumerate(cells):
        try:
            values[position] = parse_number(cell, format)
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


def parse_number(cell: Any, format: NumberFormat = PLAIN) -> float:
    """One cell as a number; NaN if it is null, NaN, blank or a word for "no value" (`NA`).

    Raises:
        ValueError: the cell is not a number. A text must be in the format: the plain format reads " 3.5 ", and not
            "1,234" or "5 kg".
    """
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        number = format.read(cell)
        return math.nan if number is None else number
    if isinstance(cell, numbers.Real | Decimal | np.bool_):
        try:
            return float(cell)
        except (OverflowError, TypeError):
            raise ValueError(f"{str(cell)[:40]} is not a finite single-precision number") from None
    raise ValueError(f"expected a number, not {type(cell).__name__}")


class LabelIndex(Generic[T]):
    """Labels by their text. A text that is no label is looked up by its value: 1.0 finds the label `1` or `1.00`, and
    TRUE finds `true`, if exactly one label has this value.

    Example:
        >>> index = LabelIndex({"1.10": 0, "2.x": 1, "true": 2})
        >>> index.get("1.1"), index.get("True"), index.get("3")
        (0, 2, None)
    """

    def __init__(self, labels: Mapping[str, T]) -> None:
        self._labels, self._values = dict(labels), Counter(map(label_value, labels))
        self._by_value = {label_value(label): found for label, found in labels.items()}

    def get(self, label: str) -> T | None:
        """What belongs to the label; None if it is unknown."""
        if label in self._labels:
            return self._labels[label]
        value = label_value(label)
        return self._by_value[value] if self._values[value] == 1 else None


def label_value(label: str) -> str:
    """The value that the text of a label stands for, as text: `1.10`, `1.1` and `11e-1` have one value."""
    if label.lower() in ("true", "false"):
        return label.lower()
    number = number_value(label)
    return label if number is None else plain_text(number) or label
