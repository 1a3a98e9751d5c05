"""Conversion of user data to a table with the columns of a model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polymodal.core.caller import warn_caller
from polymodal.core.errors import DataError, PolymodalWarning, did_you_mean
from polymodal.core.formatting import truncate
from polymodal.core.paths import cache_folder
from polymodal.core.yaml_json import TextFormatError, read_json
from polymodal.data.objects import Root, as_root
from polymodal.data.table.compressed import ZIP, format_of
from polymodal.data.table.locations import is_address
from polymodal.data.table.nested import flat_row
from polymodal.data.table.readers import SUFFIXES
from polymodal.data.table.source_part import TableFile
from polymodal.data.table.table import Table, open_table
from polymodal.data.table.tar import TAR
from polymodal.modalities.base import Modality

#: How alike two names are, of 1, if one is a misspelling of the other.
_MISSPELLED = 0.75


class MissingColumnWarning(PolymodalWarning):
    """Rows given as dicts do not have the column of an input, which counts as missing."""


def open_rows(
    data: Any, root: Root | str | None, columns: list[str], modalities: Mapping[str, Modality] | None = None
) -> Table:
    """Open `data`: any source of `open_table`, one row as a dict of cells, or JSON text.

    root: base folder of media paths in cells
    columns: required columns
    modalities: the modality of each input column, which tells one cell from a column of cells in a dict: a list of
        numbers is a cell of a time series and a column of numbers. Default: a value with a length is a column.
        Rows given as dicts or JSON may leave out inputs, but not all of them: their cells count as missing, with a
        `MissingColumnWarning`.

    Raises:
        DataError: a column is missing; the message suggests the closest name. Or a dict holds cells and columns, or may
            be one row as well as several.
    """
    if isinstance(data, Table):
        table = data
    else:
        base = as_root(root)
        rows = _rows(data, columns, modalities or {})
        rows = _with_missing_cells(rows, columns, [name for name in columns if name in (modalities or {})])
        table = open_table(rows, root=base, cache=cache_folder() / "tables")
    for column in columns:
        if column not in table.columns:
            hint = did_you_mean(column, table.columns)
            may = "; the column must exist, and its cells may be empty" if column in (modalities or {}) else ""
            raise DataError(
                f"the model needs this column, and it is missing{may}; {hint}", column=column, file=table.name
            )
    return table


def _with_missing_cells(data: Any, columns: list[str], inputs: list[str]) -> Any:
    """Rows with an empty cell in each column of `inputs` that none of them has. Other data do not change."""
    if not isinstance(data, Sequence) or not all(isinstance(row, Mapping) for row in data):
        return data
    given = dict.fromkeys(name for row in data for name in row)
    missing = [name for name in inputs if name not in given]
    if not missing or len(missing) == len(inputs):
        return data
    for name in missing:
        close = difflib.get_close_matches(name, [str(one) for one in given if one not in columns], 1, _MISSPELLED)
        if close:
            raise DataError(
                f"the rows do not have this column; did you mean {close[0]!r}? If it is missing, leave out both "
                f"or give None for {name!r}",
                column=name,
            )
    names = ", ".join(map(repr, missing))
    few = len(missing) == 1
    warn_caller(
        f"the rows have no column{'' if few else 's'} {names}: {'this input' if few else 'these inputs'} of the model "
        f"count{'s' if few else ''} as missing",
        MissingColumnWarning,
    )
    return [dict.fromkeys(missing) | dict(row) for row in data]


def _rows(data: Any, columns: list[str], modalities: Mapping[str, Modality]) -> Any:
    """Convert a dict of single cells or JSON text to rows. Other data do not change."""
    if isinstance(data, str) and data.lstrip().startswith(("{", "[")):
        try:
            data = read_json(data)
        except TextFormatError as error:
            raise DataError(f"the rows are not valid JSON: {error}") from None
    if isinstance(data, str) and not _is_path(data):
        example = f", such as {{{columns[0]!r}: {truncate(data, 40)!r}}}" if columns else ""
        raise DataError(f"{truncate(data, 80)!r} is no file or folder; give one row as a dict of its cells{example}")
    if isinstance(data, Mapping):
        data = flat_row(data)
        return [data] if _is_row(data, modalities) else data
    if isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data):
        return [flat_row(row, f"row {number}") for number, row in enumerate(data)]
    return data


def _is_path(text: str) -> bool:
    """Whether a text may be meant as a path: it exists, has the suffix of a table, or is an address."""
    if is_address(text) or format_of(TableFile.parse(text).path) in (*SUFFIXES, TAR, ZIP):
        return True
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a path, or with a null character
        return False


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
