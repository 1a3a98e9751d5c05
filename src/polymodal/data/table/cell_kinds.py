"""The kind of a column, and the reading of its cells as this kind.

The kind of a column is inferred once, from the training table, and saved with the model. Every later cell is read as
this kind by itself: its value does not depend on the other rows or on the format of the file.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CellKind = Literal["text", "integer", "number", "boolean", "list", "other"]
Cells: TypeAlias = "pa.ChunkedArray | Sequence[Any]"

# Texts that mean "no value" in a numeric or boolean column. A text column keeps them.
NULL_WORDS = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A"]
# Marks for a value that is absent or broken. They do not make a numeric column a text column: each is one bad cell.
MARKS = ["?", "-", "--", "---", ".", "*", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?"]
# A value with a leading zero (007) is a code, not a number.
WHOLE_PATTERN = r"^-?(0|[1-9]\d*)$"
NUMBER_PATTERN = r"^[-+]?((0|[1-9]\d*|\d*\.\d+|\d+\.)([eE][-+]?\d+)?|inf|Infinity)$"
BOOLEAN_PATTERN = r"^(true|false|True|False|TRUE|FALSE)$"

_PATTERNS = {"integer": WHOLE_PATTERN, "number": NUMBER_PATTERN, "boolean": BOOLEAN_PATTERN}
_TYPES = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
_WHOLE, _NUMBER = re.compile(WHOLE_PATTERN.replace(r"\d", "[0-9]")), re.compile(NUMBER_PATTERN.replace(r"\d", "[0-9]"))
_NULL_WORDS = frozenset(NULL_WORDS)
_NULL_ARRAY = pa.array(NULL_WORDS)
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
#: Whole numbers up to this magnitude are exact as double-precision numbers.
MAX_EXACT_INTEGER = 2**53


def cell_kind(type: pa.DataType | None) -> CellKind:
    """The kind of the cells of an Arrow type; `other` for Python objects, times, bytes and structures."""
    if type is None:
        return "other"
    if pa.types.is_string(type):
        return "text"
    if pa.types.is_integer(type):
        return "integer"
    if pa.types.is_floating(type):
        return "number"
    if pa.types.is_boolean(type):
        return "boolean"
    return "list" if pa.types.is_list(type) else "other"


def kind_type(kind: CellKind) -> pa.DataType | None:
    """The Arrow type of the cells of a kind; None for `list` and `other`, which have several."""
    return _TYPES.get(kind)


def read_as(cells: Cells, kind: CellKind) -> Cells:
    """Read cells as `kind`: an Arrow array if every cell could be read, or else a list in which the other cells are
    unchanged. The users of the cells report these as bad cells.

    - `integer`, `number`: texts that are plain numbers, true as 1 and false as 0. Decimal numbers of an `integer`
      column stay decimal.
    - `boolean`: the texts `true` and `false` in any case, 1 and 0.
    - `text`: the shortest text of a number, `true` and `false`, and dates in ISO format.
    - `list`: texts that are JSON lists.

    The words of `NULL_WORDS` are null in numeric and boolean columns.

    Example:
        >>> read_as(["1.10", "?", "NA"], "number")
        [1.1, '?', None]
        >>> read_as([1.0, True], "text").to_pylist()
        ['1', 'true']
    """
    if isinstance(cells, pa.ChunkedArray | pa.Array):
        own = cell_kind(cells.type)
        if own == kind or kind == "other" or (kind == "integer" and own == "number") or pa.types.is_null(cells.type):
            return cells
        if own == "integer" and kind == "number":
            return _exact_floats(cells)
        if own == "text" and kind in _PATTERNS and (converted := convert_texts(cells, kind)) is not None:
            return converted
        cells = cells.to_pylist()
    return _as_array([read_cell(cell, kind) for cell in cells], kind)


def read_cell(cell: Any, kind: CellKind) -> Any:
    """One cell read as `kind`; the cell itself if it is not of this kind."""
    if kind == "other" or cell is None:
        return cell
    if isinstance(cell, float | np.floating) and cell != cell:
        return None
    value = cell.item() if isinstance(cell, np.generic) else cell
    if kind == "text":
        text = plain_text(value)
        return cell if text is None else text
    if kind == "list":
        return _read_list(value)
    text = value.strip() if isinstance(value, str) else None
    if text is not None and text in _NULL_WORDS:
        return None
    if kind == "boolean":
        found = _BOOLEANS.get(text.lower() if text is not None else plain_text(value) or "")
        return cell if found is None else found
    return _read_number(value if text is None else text, cell, kind)


def convert_texts(texts: pa.ChunkedArray | pa.Array, kind: CellKind) -> Any:
    """Texts as an Arrow array of a numeric or boolean kind; None if one of them is not of this kind."""
    cells = without_null_words(texts)
    pattern = NUMBER_PATTERN if kind == "number" else _PATTERNS[kind]
    if not pc.all(pc.match_substring_regex(cells, pattern), min_count=0).as_py():
        return None
    try:
        return pc.utf8_lower(cells).cast(pa.bool_()) if kind == "boolean" else cells.cast(_TYPES[kind])
    except pa.ArrowInvalid:  # too large for 64 bits
        return None


def without_null_words(texts: pa.ChunkedArray | pa.Array) -> Any:
    """Texts without surrounding blanks, null where they mean "no value"."""
    trimmed = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.is_in(trimmed, _NULL_ARRAY), pa.scalar(None, pa.string()), trimmed)


def plain_text(value: Any) -> str | None:
    """The text of a scalar: 1.0 is "1", True is "true", dates are in ISO format; None if the value has none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        exact = math.isfinite(value) and value.is_integer() and abs(value) < MAX_EXACT_INTEGER
        return str(int(value)) if exact else repr(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return None


def number_value(text: str) -> int | float | None:
    """The number that a plain text stands for; None if it is not a plain number (007 is not)."""
    if _WHOLE.match(text):
        return int(text)
    return float(text) if _NUMBER.match(text) else None


def is_of_kind(cell: Any, kind: CellKind) -> bool:
    """Whether a cell that was read as `kind` is of this kind; False for a bad cell."""
    if kind in ("integer", "number"):
        return isinstance(cell, int | float | Decimal | np.integer | np.floating) and not isinstance(cell, bool)
    return isinstance(cell, bool | np.bool_) if kind == "boolean" else True


def _read_number(value: Any, cell: Any, kind: CellKind) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        found = number_value(value)
        if found is None and kind == "integer":
            found = _BOOLEANS.get(value.lower())
            found = None if found is None else int(found)
        value = cell if found is None else found
    if kind == "integer" and isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_INTEGER:
        return int(value)
    return value


def _read_list(value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, list) else value


def _exact_floats(cells: Any) -> Any:
    """Whole numbers as floats, if that loses no digit."""
    try:
        return cells.cast(pa.float64())
    except pa.ArrowInvalid:
        return cells


def _as_array(cells: list[Any], kind: CellKind) -> Cells:
    """An Arrow array of the type of the kind, if all cells have it."""
    wanted = _TYPES.get(kind)
    if wanted is None:
        return cells
    present = [cell for cell in cells if cell is not None]
    if kind == "integer" and any(isinstance(cell, float) for cell in present):
        return _as_array(cells, "number")
    if not all(isinstance(cell, str) if kind == "text" else is_of_kind(cell, kind) for cell in present):
        return cells
    try:
        return pa.chunked_array([pa.array(cells, wanted)])
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
        return cells
