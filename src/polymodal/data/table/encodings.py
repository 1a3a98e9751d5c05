"""Encodings of CSV files: the mark at the start of a file, a guess for files without one, and copies in UTF-8."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polymodal.core.errors import DataError
from polymodal.core.paths import cache_writes
from polymodal.data.table.compressed import temporary_copy

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
#: Encodings of which an error shows how a word of the file reads, if it is none of Western Europe.
_CANDIDATES = ("cp1250", "cp1251", "gb18030", "big5", "cp932", "cp949")
_LETTERS = "À-ÖØ-öø-ÿŒœŠšŸŽž"
_SIGNS = "€£§©®°±²³µ·½¼¾«»‘’‚“”„–—…•™¿¡ºª¢¥×÷´¹\\xa0"
#: What no text of Western Europe has: other signs, three such letters in a row, signs at the wrong place of a word.
_NOT_WESTERN = re.compile(
    f"[^\\x00-\\x7f{_LETTERS}{_SIGNS}]|[{_LETTERS}]{{3}}|[£¥©®¢§¹²³¼½¾ºª][A-Za-z{_LETTERS}]|[A-Za-z{_LETTERS}][¿¡]"
)
_BLOCK = 1 << 20
_SHOWN = 12


@contextmanager
def in_utf8(path: Path, cache: Path, encoding: str | None) -> Iterator[tuple[Path, str]]:
    """The path itself, or for a file in another encoding a temporary copy in UTF-8; and a note of what was assumed.

    encoding: of the file. Default: by its mark, UTF-8 if it is valid, or else Windows-1252 if the signs beyond ASCII
        are those of texts of Western Europe

    Raises:
        DataError: the file is not in this encoding, or its encoding is not known. The message shows how it reads in
            some of them.
    """
    note = ""
    if encoding is None:
        encoding, note = _find_encoding(path)
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        yield path, note
        return
    with temporary_copy(path, cache, path.name) as copy:
        with cache_writes(cache), copy.open("wb") as target:
            for text in _decoded(path, encoding):
                target.write(text.encode("utf-8"))
        yield copy, note


def check_encoding(name: str, file: Path) -> str:
    """The name, if it is that of an encoding of texts.

    Raises:
        DataError: it is not.
    """
    try:
        "".encode(name)
    except LookupError:
        problem = f"there is no encoding {name!r}; some are utf-8, utf-16, {', '.join(('cp1252', *_CANDIDATES))}"
        raise DataError(problem, file=str(file)) from None
    return name


def utf16_problem(path: Path) -> str:
    """The message for a file that begins with the mark of UTF-16 or UTF-32; empty for others."""
    name = _marked(path)
    return f"the file is {name}, as some programs save it; {_command(path, name)}" if name else ""


def not_utf8(path: Path, line: bytes, number: int) -> str:
    """The message for a line that is not UTF-8: the bytes, and the most likely encoding."""
    problem = utf16_problem(path)
    if problem:
        return problem
    return f"line {number} is not UTF-8; save the file with UTF-8 encoding. {_guess(path, line)}"


def _find_encoding(path: Path) -> tuple[str, str]:
    """The encoding of a file, and a note if it is not UTF-8."""
    marked = _marked(path)
    if marked:
        return marked.lower(), f"it is read as {marked}, by its first bytes"
    line, number = _first_bad_line(path)
    if not line:
        return "utf-8", ""
    if _is_western(path):
        word = _around(line.decode("cp1252"))
        return "cp1252", (
            f"it is not UTF-8 and is read as Windows-1252 (Western European), in which line {number} has {word!r}; if "
            f"this is wrong, name the encoding, as in {path.name}#encoding=cp1250"
        )
    readings = [f"{word!r} in {name}" for name in _CANDIDATES if (word := _reading(line, name))]
    shown = f"; line {number} reads {', '.join(readings)}" if readings else ""
    raise DataError(
        f"line {number} is not UTF-8, and its encoding is not known{shown}: name it, as in "
        f"{path.name}#encoding={_CANDIDATES[0]}",
        file=str(path),
    )


def _marked(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(4)
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), "")


def _first_bad_line(path: Path) -> tuple[bytes, int]:
    """The first line that is not UTF-8 and its number; no bytes if there is none."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    return line, number
    return b"", 0


def _is_western(path: Path) -> bool:
    """Whether the file reads as a text of Western Europe in Windows-1252."""
    try:
        return not any(_NOT_WESTERN.search(text) for text in _decoded(path, "cp1252") if not text.isascii())
    except DataError:  # a byte that Windows-1252 does not have
        return False


def _decoded(path: Path, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    start = 0
    with open(path, "rb") as file:
        while True:
            block = file.read(_BLOCK)
            try:
                yield decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                problem = f"the file is not {encoding}: after {start + error.start} bytes, {error.reason}"
                raise DataError(problem, file=str(path)) from error
            if not block:
                return
            start += len(block)


def _reading(line: bytes, encoding: str) -> str:
    try:
        return _around(line.decode(encoding))
    except UnicodeDecodeError:
        return ""


def _around(text: str) -> str:
    """The text near the first sign beyond ASCII."""
    at = next((place for place, sign in enumerate(text) if ord(sign) > 127), 0)
    return text[max(0, at - _SHOWN) : at + _SHOWN].strip()


def _guess(path: Path, line: bytes) -> str:
    words = _reading(line, "cp1252")
    if not words:
        return "Its encoding is unknown"
    return f"As Windows-1252 (Western European) it reads {words!r}; if this is right: {_command(path, 'CP1252')}"


def _command(path: Path, encoding: str) -> str:
    return f"convert it with `iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}`"
