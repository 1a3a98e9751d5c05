"""Conversion of user data to a table with the columns of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError, did_you_mean
from polymodal.core.paths import cache_folder
from polymodal.data.table.table import Table, open_table
from polymodal.modalities.base import Modality


def open_rows(
    data: Any, root: Path | str | None, columns: list[str], modalities: Mapping[str, Modality] | None = None
) -> Table:
    """Open `data`: any source of `open_table`, one row as a dict of cells, or JSON text.

    root: base folder of media paths in cells
    columns: required columns
    modalities: the modality of each input column, which tells one cell from a column of cells in a dict: a list of
        numbers is a cell of a time series and a column of numbers. Default: a value with a length is a column.

    Raises:
        DataError: a column is missing; the message suggests the closest name. Or a dict holds cells and columns, or may
            be one row as well as several.
    """
    if isinstance(data, Table):
        table = data
    else:
        base = Path(root) if root is not None else None
        table = open_table(_rows(data, modalities or {}), root=base, cache=cache_folder() / "tables")
    for column in columns:
        if column not in table.columns:
            hint = did_you_mean(column, table.columns)
            raise DataError(f"the model needs this column, and it is missing; {hint}", column=column, file=table.name)
    return table


def _rows(data: Any, modalities: Mapping[str, Modality]) -> Any:
    """Convert a dict of single cells or JSON text to rows. Other data do not change."""
    if isinstance(data, str) and data.lstrip().startswith(("{", "[")):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DataError(f"the rows are not valid JSON: {error}") from None
    return [dict(data)] if isinstance(data, Mapping) and _is_row(data, modalities) else data


def _is_row(data: Mapping[Any, Any], modalities: Mapping[str, Modality]) -> bool:
    """Whether a dict is one row. If it has columns of inputs, these decide."""
    found = {name: modalities[name].is_cell(value) for name, value in data.items() if name in modalities}
    kinds = {kind: name for name, kind in found.items() if data[name] is not None}
    if True in kinds and False in kinds:
        raise DataError(
            f"{kinds[True]!r} holds one cell and {kinds[False]!r} holds several: give one row as a list of one dict, "
            "[{...}], or a list of cells for every column"
        )
    if None in kinds and len(kinds) == 1:
        raise DataError(f"{kinds[None]!r} may be one cell or several: give the rows as a list of dicts, [{{...}}]")
    if kinds:
        return True in kinds
    return any(isinstance(value, str | bytes) or not hasattr(value, "__len__") for value in data.values())
