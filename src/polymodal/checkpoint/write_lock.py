"""The lock of a directory that is being written.

Such a directory holds `writing.json`: the process that writes it, and what it writes. The process holds a lock on the
file, which the system releases if the process dies. A file without a lock thus marks a directory whose writer was
killed.
"""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from polymodal.checkpoint.directory_kinds import WRITING, json_object
from polymodal.core.errors import OutputError
from polymodal.core.locks import is_locked_elsewhere
from polymodal.core.writing import write_errors

#: The directories that this process writes, as absolute paths without links.
_held: set[Path] = set()


class WriteLock:
    """The lock of one directory, held until `release`.

    before: the note in the directory when it was locked; empty if there was none

    Raises:
        OutputError: another writer holds the lock, or the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with write_errors(folder):
            self._file = _locked_file(folder)
        self.before = json_object(folder / WRITING)
        _held.add(folder.resolve())

    def write(self, note: dict[str, Any]) -> None:
        """Write the note, with the process, the host and the time."""
        about = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        }
        with write_errors(self.folder / WRITING):
            self._file.seek(0)
            self._file.write(json.dumps({**about, **note}, ensure_ascii=False, indent=1).encode())
            self._file.truncate()
            self._file.flush()

    def release(self, *, keep: bool = False) -> None:
        """Release the lock. The file is deleted, unless `keep` is set."""
        _held.discard(self.folder.resolve())
        if not keep and is_current(self._file, self.folder):
            (self.folder / WRITING).unlink(missing_ok=True)
        self._file.close()

    def move(self, folder: Path) -> None:
        """Follow the directory to its new path."""
        _held.discard(self.folder.resolve())
        self.folder = folder
        _held.add(folder.resolve())


def is_written_by_this_process(folder: Path) -> bool:
    """Whether this process holds the lock of a directory (an absolute path without links)."""
    return folder in _held


def is_current(file: IO[bytes], folder: Path) -> bool:
    """Whether the open file is the `writing.json` of the folder, and not one that was deleted or replaced."""
    try:
        there = (folder / WRITING).stat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(file.fileno()), there)


def _locked_file(folder: Path) -> IO[bytes]:
    while True:
        file = os.fdopen(os.open(folder / WRITING, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        if is_locked_elsewhere(file):
            file.close()
            raise OutputError(f"{folder} {_holder(folder)}; wait until it is done, or choose another directory")
        if is_current(file, folder):
            return file
        file.close()  # its writer deleted it between the two calls


def _holder(folder: Path) -> str:
    note = json_object(folder / WRITING)
    if not {"pid", "host", "since"} <= note.keys():
        return "is being written by another process"
    return f"is being written by process {note['pid']} on {note['host']} since {note['since']}"
