"""Rows without types: dicts of Python values. A type that fits all values of a column is inferred."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from polymodal.data.table.cell_kinds import MAX_EXACT_INTEGER, plain_text
from polymodal.data.table.nested import null_parents

_TEXT = pa.string()


class UntypedRows(ABC):
    """Rows as dicts, read twice: first to infer a type that fits each column, then to convert.

    A column of whole and decimal numbers becomes float64. Values without a common type become text: strings stay
    unchanged, other values become JSON. A key that is missing in a row is null.
    """

    def __init__(self) -> None:
        self.schema = self._infer_schema()

    @abstractmethod
    def _blocks(self) -> Iterator[list[dict[str, Any]]]:
        """The rows in order, in blocks, from the first one at each call."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in batches of `self.schema`."""
        for rows in self._blocks():
            arrays = [_convert([row.get(field.name) for row in rows], field.type) for field in self.schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _infer_schema(self) -> pa.Schema:
        kinds: dict[str, pa.DataType] = {}
        for rows in self._blocks():
            for name in dict.fromkeys(name for row in rows for name in row):
                kind = kinds.get(name, pa.null())
                if not pa.types.is_string(kind):
                    kinds[name] = _common(kind, _infer([row.get(name) for row in rows]))
                else:
                    kinds[name] = kind
        dropped = null_parents([name for name, kind in kinds.items() if pa.types.is_null(kind)], list(kinds))
        return pa.schema([(name, kind) for name, kind in kinds.items() if name not in dropped])


def _infer(values: list[Any]) -> pa.DataType:
    """A type that fits all `values`; text if there is none."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds == {int, float}:
        return pa.float64() if all(abs(value) <= MAX_EXACT_INTEGER for value in present if value == value) else _TEXT
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError):
        return _TEXT


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """A type that fits the values of both types; text if there is none."""
    try:
        schemas = [pa.schema([("x", one)]), pa.schema([("x", other)])]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowTypeError:
        return _TEXT


def _convert(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        values = [None if value is None else _as_text(value) for value in values]
    elif pa.types.is_floating(kind):
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, type=kind)


def _as_text(value: Any) -> str:
    text = plain_text(value)
    return json.dumps(value, ensure_ascii=False) if text is None else text
