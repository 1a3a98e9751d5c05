"""JSON files with one array of objects. A file with one object per line is read as JSON lines, whatever its suffix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError
from polymodal.core.yaml_json import TextFormatError
from polymodal.core.yaml_json import read_json as parse_json
from polymodal.data.table.encodings import not_utf8
from polymodal.data.table.json_lines import JsonLines, check_surrogates
from polymodal.data.table.nested import flat_row

_ORIENT = "write it with frame.to_json(path, orient='records', lines=True)"


class JsonArray(JsonLines):
    """An array of objects, `[{"length": 1.5}, ...]`, each of which is a row. The types are those of `JsonLines`.

    Raises:
        DataError: the file is not UTF-8 or not JSON, or an item is not an object. The message gives the number of the
            item, from 0.
    """

    def _blocks(self) -> Iterator[list[dict[str, Any]]]:
        rows = read_array(self.path)
        for start in range(0, len(rows), 4096):
            some = rows[start : start + 4096]
            yield [flat_row(row, f"item {start + at}", str(self.path)) for at, row in enumerate(some)]


def read_json(path: Path) -> JsonLines:
    """The reader of a `.json` file: of an array, or of lines."""
    with open(path, "rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        file.seek(0)
        first_line = file.readline()
    if start.startswith(b"{") and _is_object(first_line):
        return JsonLines(path)
    return JsonArray(path)


def read_array(path: Path) -> list[dict[str, Any]]:
    """The rows of a file with an array of objects."""
    data, file = path.read_bytes(), str(path)
    try:
        found = parse_json(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[data.rfind(b"\n", 0, error.start) + 1 : error.start + 40]
        raise DataError(not_utf8(path, line, data.count(b"\n", 0, error.start) + 1), file=file) from error
    except TextFormatError as error:  # also a key given twice, and integers of thousands of digits
        raise DataError(f"the file is not JSON ({error})", file=file) from error
    if isinstance(found, dict):
        names = ", ".join(map(repr, list(found)[:3]))
        problem = f"the file holds one object (with {names}), not an array of objects, one for each row; {_ORIENT}"
        raise DataError(problem, file=file)
    if not isinstance(found, list):
        raise DataError(f"the file holds no array of objects; {_ORIENT}", file=file)
    for number, row in enumerate(found):
        if not isinstance(row, dict):
            raise DataError(f"item {number} is not a JSON object", file=file)
    if b"\\ud" in data.lower():
        for number, row in enumerate(found):
            check_surrogates(row, f"item {number}", file)
    return found


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
