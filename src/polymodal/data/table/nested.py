"""Objects in cells: the keys of an object become columns with dotted names, `{"user": {"age": 3}}` the column
`user.age`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.core.errors import DataError

#: Keys of cells that are one item of media, as in data sets of the Hugging Face Hub.
_FILE, _SOUND = frozenset({"bytes", "path"}), frozenset({"array", "sampling_rate"})


def is_item(cell: Mapping[str, Any]) -> bool:
    """Whether an object is one item, which stays one cell: of media, or a time series with a list for each channel."""
    if _is_media(cell.keys()):
        return True
    given = [one for one in cell.values() if one is not None]
    return bool(given) and all(isinstance(one, list | tuple | np.ndarray) and _is_series(one) for one in given)


def flat_row(row: Mapping[str, Any], where: str = "", file: str | None = None) -> dict[str, Any]:
    """A row in which the keys of every object are keys of the row, with dotted names. Lists stay cells.

    where: the row, for messages

    Raises:
        DataError: two keys get the same name.

    Example:
        >>> flat_row({"id": 1, "user": {"age": 3, "place": {"city": "Bonn"}}, "photo": {"path": "1.png"}})
        {'id': 1, 'user.age': 3, 'user.place.city': 'Bonn', 'photo': {'path': '1.png'}}
    """
    if not any(isinstance(cell, Mapping) for cell in row.values()):
        return dict(row)
    flat: dict[str, Any] = {}
    _add(flat, row, "", f"{where} has" if where else "a row has", file)
    return flat


def null_parents(empty: Collection[str], names: Collection[str]) -> set[str]:
    """Of the columns `empty`, which have no values, those that stand for an object that is null as a whole, while its
    keys are columns of other rows.

    >>> null_parents(["user", "note"], ["user", "user.age", "note"])
    {'user'}
    """
    return {name for name in empty if any(str(other).startswith(f"{name}.") for other in names)}


def flat_columns(columns: Mapping[str, pa.ChunkedArray | list[Any]]) -> dict[str, pa.ChunkedArray | list[Any]]:
    """Columns in which each column of objects is replaced by a column for each of its keys.

    Raises:
        DataError: two columns get the same name.

    Example:
        >>> cells = pa.chunked_array([pa.array([{"age": 3, "city": "Bonn"}, None])])
        >>> {name: column.to_pylist() for name, column in flat_columns({"user": cells}).items()}
        {'user.age': [3, None], 'user.city': ['Bonn', None]}
    """
    flat: dict[str, pa.ChunkedArray | list[Any]] = {}
    for name, column in columns.items():
        parts = {name: column}
        if isinstance(column, pa.ChunkedArray) and _has_keys(column.type):
            inner = zip(column.type, column.flatten(), strict=True)
            parts = flat_columns({f"{name}.{one.name}": part for one, part in inner})
        for key, part in parts.items():
            if key in flat or (key != name and key in columns):
                raise DataError(f"a key of an object and another column have the name {key!r}; rename one", column=name)
            flat[key] = part
    return flat


def _add(flat: dict[str, Any], cells: Mapping[str, Any], prefix: str, where: str, file: str | None) -> None:
    for key, cell in cells.items():
        name = f"{prefix}{key}"
        if isinstance(cell, Mapping) and not is_item(cell):
            _add(flat, cell, f"{name}.", where, file)
            continue
        if name in flat:
            raise DataError(f"{where} two values with the name {name!r}; rename one", file=file)
        flat[name] = cell


def _is_media(keys: Collection[str]) -> bool:
    names = set(keys)
    return bool(names) and (names <= _FILE or names >= _SOUND)


def _is_series(values: Iterable[Any]) -> bool:
    return all(one is None or (isinstance(one, Real | np.number) and not isinstance(one, bool)) for one in values)


def _has_keys(kind: pa.DataType) -> bool:
    """Whether the cells of a type are objects that are not one item."""
    if not pa.types.is_struct(kind) or kind.num_fields == 0 or _is_media([one.name for one in kind]):
        return False
    lists = [one.type.value_type for one in kind if pa.types.is_list(one.type) or pa.types.is_large_list(one.type)]
    empty = sum(pa.types.is_null(one.type) for one in kind)
    numbers = all(pa.types.is_integer(one) or pa.types.is_floating(one) for one in lists)
    return not (lists and numbers and len(lists) + empty == kind.num_fields)
