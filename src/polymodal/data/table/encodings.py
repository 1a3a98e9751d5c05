"""Encodings of text files: what a file that is not UTF-8 may be, and the command that converts it."""

from __future__ import annotations

import codecs
from pathlib import Path

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def utf16_problem(path: Path) -> str:
    """The message for a file that begins with the mark of UTF-16 or UTF-32; empty for others."""
    with open(path, "rb") as file:
        start = file.read(4)
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return f"the file is {name}, as some programs save it; {_command(path, name)}"
    return ""


def not_utf8(path: Path, line: bytes, number: int) -> str:
    """The message for a line that is not UTF-8: the bytes, and the most likely encoding."""
    problem = utf16_problem(path)
    if problem:
        return problem
    return f"line {number} is not UTF-8; save the file with UTF-8 encoding. {_guess(path, line)}"


def _guess(path: Path, line: bytes) -> str:
    try:
        shown = line.decode("cp1252").strip()
    except UnicodeDecodeError:
        return "Its encoding is unknown"
    at = next((place for place, sign in enumerate(shown) if ord(sign) > 127), 0)
    words = shown[max(0, at - 12) : at + 12].strip()
    return f"As Windows-1252 (Western European) it reads {words!r}; if this is right: {_command(path, 'CP1252')}"


def _command(path: Path, encoding: str) -> str:
    return f"convert it with `iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}`"
