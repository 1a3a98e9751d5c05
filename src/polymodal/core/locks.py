"""File locks that show which files other processes have open.

These are `flock` locks. A lock belongs to the open file, so a mapping of the file keeps the lock until it is closed,
and the system releases it when the process dies. Windows and some file systems have no such locks; nothing is evicted
from a store there, and a second writer of a directory is not noticed.
"""

from __future__ import annotations

import sys
from typing import IO

if sys.platform == "win32":

    def lock_shared(file: IO[bytes]) -> None:
        """Do nothing: a mapped file cannot be deleted on this system."""

    def try_lock_exclusive(file: IO[bytes]) -> bool:
        """Always False: there are no locks that show whether another process has the file open."""
        return False

    def is_locked_elsewhere(file: IO[bytes]) -> bool:
        """Always False: there are no locks that show whether another process has the file open."""
        return False

else:
    import contextlib
    import fcntl

    def lock_shared(file: IO[bytes]) -> None:
        """Mark the file as in use while it, or a mapping of it, is open."""
        with contextlib.suppress(OSError):  # without lock support, eviction cannot take its lock either
            fcntl.flock(file, fcntl.LOCK_SH)

    def try_lock_exclusive(file: IO[bytes]) -> bool:
        """Whether no process uses the file. If so, `lock_shared` blocks until the file is closed."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def is_locked_elsewhere(file: IO[bytes]) -> bool:
        """Whether another open file has the lock. If not, this file has it until it is closed.

        A file system without locks never reports another holder.
        """
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False
