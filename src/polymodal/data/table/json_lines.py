"""JSON lines reading in streaming mode. Column types fit the whole file, and errors give the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polymodal.core.errors import DataError
from polymodal.core.yaml_json import TextFormatError, read_json
from polymodal.data.table.encodings import not_utf8
from polymodal.data.table.nested import flat_row
from polymodal.data.table.untyped_rows import UntypedRows

_BLOCK_BYTES = 4 << 20


class JsonLines(UntypedRows):
    """A file with one JSON object per line. Blank lines are skipped. An object in an object is flattened
    (`nested.flat_row`).

    Raises:
        DataError: a line is not UTF-8, not JSON, or not an object. The message gives the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__()

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
