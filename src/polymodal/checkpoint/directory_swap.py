"""The exchange of a directory with its replacement, which a killed process leaves in a state that can be finished.

The replacement `<name>.part` is complete and holds a `writing.json` with `swap`. Linux exchanges two directories in one
step. Elsewhere, the old directory is renamed to `<name>.old` first, so that for a moment there is no directory under
the name; the next writer then finishes the exchange.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from polymodal.checkpoint.directory_kinds import WRITING, DirectoryKind, delete_owned, files_in, json_object
from polymodal.checkpoint.write_lock import WriteLock
from polymodal.core.writing import write_errors

PART, OLD = ".part", ".old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def swap(target: Path, part: Path) -> None:
    """Give `part` the name of `target`, and `target` that of `part`."""
    if exchange(target, part):
        return
    old = target.with_name(target.name + OLD)
    target.rename(old)
    part.rename(target)
    old.rename(part)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two directories in one step. False if the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)


def finish_swap(target: Path, kind: DirectoryKind, lock: WriteLock | None = None) -> None:
    """Finish an exchange that has begun: delete the files of the old directory. Foreign files move to the new one.

    lock: the lock of the new directory, if this process holds it; otherwise this function takes it, if there is
        something to finish

    Raises:
        OutputError: another process is doing so.
    """
    part, old = target.with_name(target.name + PART), target.with_name(target.name + OLD)
    new = next((one for one in (target, part) if json_object(one / WRITING).get("swap")), None)
    if new is None or (new == part and target.exists()):
        return  # nothing is exchanged, or the exchange has not begun
    own = lock or WriteLock(new)
    with write_errors(target):
        if new == part:
            part.rename(target)
            own.move(target)
        if old.is_dir() and not part.exists():
            old.rename(part)
        if part.is_dir():
            delete_owned(part, kind)
            _move_files(part, target)
    if lock is None:
        own.release()


def _move_files(folder: Path, target: Path) -> None:
    """Move files that appeared in the old directory while the new one was written, and remove the empty folders."""
    for name in list(files_in(folder)):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(target / name)
    for base, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # a file that appears right now stays
            Path(base).rmdir()
