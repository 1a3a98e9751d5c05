"""JSON lines reading in streaming mode. Column types fit the whole file, and errors give the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from polymodal.core.errors import DataError
from polymodal.core.yaml_json import TextFormatError, read_json
from polymodal.data.table.cell_kinds import MAX_EXACT_INTEGER, plain_text
from polymodal.data.table.encodings import not_utf8
from polymodal.data.table.nested import flat_row, null_parents

_TEXT = pa.string()
_BLOCK_BYTES = 4 << 20


class JsonLines:
    """A file with one JSON object per line, read twice: first to infer a type that fits each column, then to convert.

    A column of whole and decimal numbers becomes float64. Values without a common type become text: strings stay
    unchanged, other values become JSON. A key that is missing in a line is null. Blank lines are skipped. An object in
    an object is flattened (`nested.flat_row`).

    Raises:
        DataError: a line is not UTF-8, not JSON, or not an object. The message gives the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.schema = self._infer_schema()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The file in batches of `self.schema`."""
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

    def _blocks(self) -> Iterator[list[dict[str, Any]]]:
        number = 0
        with open(self.path, "rb") as file:
            while lines := file.readlines(_BLOCK_BYTES):
                rows = []
                for line in lines:
                    number += 1
                    if number == 1:
                        line = line.removeprefix(b"\xef\xbb\xbf")
                    if line.strip():
                        rows.append(self._parse(line, number))
                yield rows

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = read_json(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(not_utf8(self.path, line, number), file=str(self.path)) from error
        except TextFormatError as error:  # also a key given twice, and integers of thousands of digits
            raise DataError(f"line {number} is not JSON ({error})", file=str(self.path)) from error
        if b"\\ud" in line.lower():  # an escape that may be half a surrogate pair, which no text may hold
            check_surrogates(row, f"line {number}", str(self.path))
        if not isinstance(row, dict):
            raise DataError(f"line {number} is not a JSON object", file=str(self.path))
        return flat_row(row, f"line {number}", str(self.path))


def check_surrogates(row: Any, where: str, file: str) -> None:
    """Check that no text of a row holds half a surrogate pair.

    Raises:
        DataError: such a text cannot be written as UTF-8. The message gives the line.
    """
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{where} has half a surrogate pair (\\ud800 to \\udfff)", file=file) from None


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
