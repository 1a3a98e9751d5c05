"""Writing of files: a file is complete or absent, has the user's normal mode, and a failure is a typed error."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polymodal.core.errors import OutputError

#: Pattern of the names of files that are not complete yet.
PART_PATTERN = ".?*.part"


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` while `path` is written into an `OutputError`.

    An error that names a file in another folder, such as a table that is read meanwhile, is raised unchanged.

    Example:
        >>> with write_errors(Path("answers.csv")):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        polymodal.core.errors.OutputError: answers.csv cannot be written: No space left on device
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and not _is_near(Path(os.fsdecode(error.filename)), path):
            raise
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def _is_near(file: Path, path: Path) -> bool:
    """Whether `file` is `path`, lies beside or in it, or is one of the folders that hold it."""
    file, path = file.absolute(), path.absolute()
    return file.parent == path.parent or file.is_relative_to(path) or path.is_relative_to(file)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield the path of a new empty file beside `path`, which replaces `path` at the end.

    If the block raises an error, the new file is deleted and `path` is unchanged. Missing folders are created. The file
    has the mode that the umask of the user gives, whatever wrote into it.

    Raises:
        OutputError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
        try:
            yield part
            if part.stat().st_mode & 0o777 != mode:
                part.chmod(mode)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; half of a surrogate pair, which has no UTF-8 form, becomes `?`.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as part:
        part.write_bytes(text.encode("utf-8", "replace"))
