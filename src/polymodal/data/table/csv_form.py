"""The separator and the encoding of a CSV file: as its address says, `table.csv#separator=;&encoding=cp1252`, or found
in the file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from polymodal.core.errors import DataError, did_you_mean
from polymodal.data.table.encodings import check_encoding

#: Separators that are looked for, in the order of preference, and their names.
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_WORDS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " ", "colon": ":"}
#: Bytes and lines from which the separator is found.
_START_BYTES, _START_LINES = 1 << 16, 50


@dataclass(frozen=True)
class CsvForm:
    """What the address of a CSV file says of it; None if it does not say."""

    separator: str | None = None
    encoding: str | None = None

    @classmethod
    def parse(cls, text: str, file: Path) -> CsvForm:
        r"""The form in the part of an address after `#`.

        Raises:
            DataError: an unknown key, a separator that is not one character, or an unknown encoding.

        Example:
            >>> CsvForm.parse("separator=tab&encoding=cp1252", Path("a.csv"))
            CsvForm(separator='\t', encoding='cp1252')
        """
        given: dict[str, str] = {}
        for one in filter(None, text.split("&")):
            key, equals, value = one.partition("=")
            if key not in ("separator", "encoding") or not equals or not value:
                hint = did_you_mean(key, ["separator", "encoding"])
                raise DataError(f"{one!r} after '#' is not separator=... or encoding=...; {hint}", file=str(file))
            given[key] = value
        separator = given.get("separator")
        if separator is not None:
            separator = _WORDS.get(separator.lower(), separator)
            if len(separator) != 1 or not separator.isascii() or separator in '"\r\n':
                words = ", ".join(word for word in _WORDS if word.isalpha())
                raise DataError(f"the separator must be one ASCII character, or {words}", file=str(file))
        encoding = given.get("encoding")
        return cls(separator, None if encoding is None else check_encoding(encoding, file))


def separator_name(separator: str) -> str:
    """The name of a separator in messages."""
    return _NAMES.get(separator) or repr(separator)


def find_separator(path: Path) -> str:
    """The character that separates the cells of a `.csv` file in UTF-8: a comma, semicolon, tab or vertical bar.

    It is the first of them that gives the header and the next lines equally many cells, at least two. Without one, it
    is the comma if the header has one, or else the most frequent of them.
    """
    with open(path, "rb") as file:
        start = file.read(_START_BYTES)
        is_whole = not file.read(1)
    text = start.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.splitlines(keepends=True)
    if not is_whole and len(lines) > 1:
        lines = lines[:-1]
    if not lines:
        return ","
    for mark in _NAMES:
        widths = _widths(lines, mark)
        if len(widths) > 0 and widths[0] > 1 and len(set(widths)) == 1:
            return mark
    bare = "".join(lines[0].split('"')[::2])
    counts = {mark: bare.count(mark) for mark in _NAMES}
    most = max(counts, key=lambda mark: counts[mark])
    return most if counts[most] and not counts[","] else ","


def _widths(lines: list[str], separator: str) -> list[int]:
    """The number of cells of each of the first rows, without the last one, which may be truncated; none of lines that
    are not CSV with this separator."""
    widths: list[int] = []
    try:
        for row in csv.reader(lines, delimiter=separator, strict=True):
            if row:
                widths.append(len(row))
            if len(widths) > _START_LINES:
                return widths[:-1]
    except csv.Error:
        return widths if len(widths) > 1 else []
    return widths
