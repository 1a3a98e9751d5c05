"""Guarded reading of the bytes behind a media cell. All media are read here."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import PurePath
from typing import Any

from polymodal.data.objects import ObjectPath, Root, path_below
from polymodal.recipe.data import LimitOptions


class MediaError(Exception):
    """A media cell cannot be used. `str(error)` is the reason for the user, which becomes a cell error.

    inline: the error is in the cell itself, not in a file that it names
    """

    inline = False


class MissingFileError(MediaError):
    """The file of a media cell does not exist."""


class MissingRootError(MediaError):
    """A media cell is a path, and there is no root folder."""


#: Texts that programs write for an empty cell.
EMPTY_WORDS = frozenset({"nan", "none", "null", "nil", "na", "n/a", "#n/a", "<na>", "nat", "-", "--", "?", "missing"})


def read_bytes(cell: Any, root: Root | None, limits: LimitOptions) -> tuple[bytes, str | None]:
    r"""The bytes of a media cell, and the file they came from (as named in the cell; None for inline bytes).

    A cell is a file path under `root` (a folder of this machine or of an object store), a `data:` address in base64,
    bytes, or a record with `bytes` and `path` as in data sets of the Hugging Face Hub. A path that leaves `root` by
    `..`, by a symbolic link or by being absolute is refused. Anything over `limits.megabytes` is refused before it is
    read.

    Raises:
        MediaError: the cell cannot be used.

    Example:
        >>> read_bytes("data:text/csv;base64,MSwyCg==", None, LimitOptions())
        (b'1,2\n', None)
    """
    if isinstance(cell, dict) and cell.keys() <= {"bytes", "path"}:
        name = cell.get("path")
        if cell.get("bytes") is None:
            return read_bytes(name, root, limits)
        return read_bytes(cell["bytes"], root, limits)[0], name
    if isinstance(cell, bytes | bytearray | memoryview):
        _check_size(memoryview(cell).nbytes, limits)
        return bytes(cell), None
    if isinstance(cell, str) and cell[:5].lower() == "data:":
        return _read_data_address(cell, limits), None
    if isinstance(cell, str | PurePath):
        return _read_file(str(cell), root, limits), str(cell)
    raise MediaError(f"expected a path or bytes, not {type(cell).__name__}")


def _check_size(size: float, limits: LimitOptions) -> None:
    if size > limits.megabytes * 2**20:
        raise MediaError(f"{size / 2**20:.1f} MiB is over the limit of {limits.megabytes:g} MiB")


def _read_data_address(address: str, limits: LimitOptions) -> bytes:
    header, comma, payload = address.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise MediaError("a data: address must be in base64 (data:image/png;base64,...)")
    _check_size(len(payload) * 3 / 4, limits)
    try:
        return base64.b64decode(payload.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError("the base64 of the data: address is damaged") from error


def _read_file(path: str, root: Root | None, limits: LimitOptions) -> bytes:
    if not path.strip():
        raise MediaError("the path is empty")
    if isinstance(root, ObjectPath):
        return _read_object(path, root, limits)
    if "://" in path or path[:2] == "//":
        raise MediaError(
            "file: addresses are not supported; use the path of the file"
            if path[:5].lower() == "file:"
            else "web addresses are not supported; of an object store, pass the folder as `root` (--root), such as "
            "s3://bucket/photos, or download the file and use its path"
            if ObjectPath.parse(path) is not None
            else "web addresses are not supported; download the file and use its path"
        )
    if root is None:
        problem = empty_word_problem(path)
        if problem is not None:
            raise MediaError(problem)
        raise MissingRootError("a path needs a root folder; pass `root` (--root), the folder of relative paths")
    try:
        home = os.path.realpath(root)
        real = os.path.realpath(os.path.join(home, path))
        if os.path.commonpath([home, real]) != home:
            raise MediaError(f"the path leaves the root folder ({_way_out(path, home)})")
        with open(real, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise MediaError("the path is not a file")
            _check_size(status.st_size, limits)
            return file.read()
    except FileNotFoundError as error:
        problem = empty_word_problem(path)
        raise (MissingFileError("the file does not exist") if problem is None else MediaError(problem)) from error
    except IsADirectoryError as error:
        raise MediaError("the path is a folder") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the path is not valid"
        raise MediaError(f"the file cannot be read: {reason}") from error


def _read_object(path: str, root: ObjectPath, limits: LimitOptions) -> bytes:
    found = path_below(root, path)
    if found is None:
        raise MediaError(f"the path leaves the root folder {root}; choose a root above the file")
    try:
        with found.open() as file:
            _check_size(file.size(), limits)
            data: bytes = file.read()
            return data
    except FileNotFoundError as error:
        problem = empty_word_problem(path)
        raise (MissingFileError("the file does not exist") if problem is None else MediaError(problem)) from error
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MediaError(f"the object store cannot be read: {reason}") from error


def empty_word_problem(text: str) -> str | None:
    """The problem of a text that some program wrote for an empty cell; None for other texts."""
    word = text.strip()
    return f"{word!r} is a word for an empty cell; leave the cell empty" if word.lower() in EMPTY_WORDS else None


def _way_out(path: str, home: str) -> str:
    """How a path leaves the folder `home`, and what to do."""
    if os.path.isabs(path):
        return "it is absolute; choose a root above the file, or copy the file below the root"
    if not os.path.normpath(os.path.join(home, path)).startswith(home + os.sep):
        return "by '..'; choose a root above the file, or copy the file below the root"
    return "through a link; copy the file below the root"


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would block until it has a writer
