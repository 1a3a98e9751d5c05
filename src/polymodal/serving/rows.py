"""Rows of a request: their columns are checked, and their media are read through one guarded place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polymodal.core.errors import did_you_mean
from polymodal.data.media.source import MediaError, read_bytes
from polymodal.serving.errors import RequestError
from polymodal.serving.served_model import ServedModel

#: Whole numbers of cells are below this power of two.
INTEGER_BITS = 63
#: The largest depth of lists in a cell.
MAX_DEPTH = 8

Row = dict[str, Any]


def read_rows(rows: Sequence[Mapping[str, Any]], served: ServedModel, *, prompts: bool = True) -> list[Row]:
    """Rows with a cell for every column of the model; None where the row has none.

    Media are bytes, or base64 in a `data:` address. No file of this machine and no address is read: a path is an error.

    prompts: whether the rows need the columns of prompts

    Raises:
        RequestError: a row has a column that the model does not know, or none that it knows; or a cell cannot be used.
    """
    return [_read_row(row, number, served, prompts) for number, row in enumerate(rows)]


def _read_row(row: Mapping[str, Any], number: int, served: ServedModel, prompts: bool) -> Row:
    for column in row:
        if column not in served.columns:
            hint = did_you_mean(column, served.columns)
            raise RequestError(
                f"row {number}: the model has no input column {column!r}; {hint}", code="unknown_column", param=column
            )
    for column in served.prompt_columns if prompts else ():
        if column not in row:
            raise RequestError(
                f"row {number}: the column {column!r} is missing; it may be null", code="missing_column", param=column
            )
    if not any(row.get(column) is not None for column in served.columns):
        known = ", ".join(map(repr, served.columns)) or "no columns"
        raise RequestError(f"row {number} has no cell; the columns of the model are {known}", code="empty_row")
    return {column: _read_cell(row.get(column), number, column, served) for column in served.columns}


def _read_cell(cell: Any, number: int, column: str, served: ServedModel) -> Any:
    if cell is None:
        return None
    problem = ""
    if not served.takes_media(column) or (isinstance(cell, list) and served.takes_lists(column)):
        problem = _problem(cell, 0)
    elif isinstance(cell, bytes) or (isinstance(cell, str) and cell[:5].lower() == "data:"):
        try:
            return read_bytes(cell, None, served.limits)[0]
        except MediaError as error:
            problem = str(error)
    else:
        problem = "a media cell is base64 in a data: address, or an uploaded file; paths and addresses are not read"
    if problem:
        raise RequestError(f"row {number}, column {column!r}: {problem}", code="invalid_cell", param=column)
    return cell


def _problem(value: Any, depth: int) -> str:
    """Why a plain cell cannot be used; empty if it can."""
    if depth > MAX_DEPTH:
        return f"the cell has more than {MAX_DEPTH} levels"
    if isinstance(value, str):
        return "the text has half of a character" if any("\ud800" <= sign <= "\udfff" for sign in value) else ""
    if isinstance(value, int) and abs(value) >= 2**INTEGER_BITS:
        return f"the number does not fit into {INTEGER_BITS + 1} bits"
    if isinstance(value, bytes):
        return "the column takes no files"
    if isinstance(value, Mapping) and depth == 0:
        return "a cell is no object; give its values as columns, such as size.width"
    inner = [*value, *value.values()] if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return next(filter(None, (_problem(one, depth + 1) for one in inner)), "")
