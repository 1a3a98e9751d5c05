"""Conversion of user data to a table with the columns of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError, did_you_mean
from polymodal.core.paths import cache_folder
from polymodal.data.table.table import Table, open_table


def open_rows(data: Any, root: Path | str | None, columns: list[str]) -> Table:
    """Open `data`: any source of `open_table`, one row as a dict of cells, or JSON text.

    root: base folder of media paths in cells
    columns: required columns

    Raises:
        DataError: a column is missing; the message suggests the closest name.
    """
    if isinstance(data, Table):
        table = data
    else:
        table = open_table(_rows(data), root=Path(root) if root is not None else None, cache=cache_folder() / "tables")
    for column in columns:
        if column not in table.columns:
            hint = did_you_mean(column, table.columns)
            raise DataError(f"the model needs this column, and it is missing; {hint}", column=column, file=table.name)
    return table


def _rows(data: Any) -> Any:
    """Convert a dict of single cells or JSON text to rows. Other data do not change."""
    if isinstance(data, str) and data.lstrip().startswith(("{", "[")):
        try:
            data = json.loads(data)
        except ValueError as error:
            raise DataError(f"the rows are not valid JSON: {error}") from None
    if isinstance(data, Mapping) and any(_is_cell(value) for value in data.values()):
        return [dict(data)]
    return data


def _is_cell(value: Any) -> bool:
    """Whether a value of a mapping is one cell and not a column: text, bytes, or anything without a length."""
    return isinstance(value, str | bytes) or not hasattr(value, "__len__")
