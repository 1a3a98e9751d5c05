"""Locks on files by which processes tell each other what they have open.

They are those of `flock`: they belong to the open file, so a mapping made from it keeps them until it is gone, and the
system lets go of them when a process dies. On Windows there are none, nor on file systems without locks; nothing is
evicted from a store there.
"""

from __future__ import annotations

import sys
from typing import IO

if sys.platform == "win32":

    def share(file: IO[bytes]) -> None:
        """Do nothing: a mapped file cannot be deleted on this system."""

    def exclusive(file: IO[bytes]) -> bool:
        """False: there are no locks that tell whether another process has the file open."""
        return False

else:
    import contextlib
    import fcntl

    def share(file: IO[bytes]) -> None:
        """Say that the file is in use, for as long as it, or a mapping made from it, is open."""
        with contextlib.suppress(OSError):  # a file system without locks gives none to those who evict either
            fcntl.flock(file, fcntl.LOCK_SH)

    def exclusive(file: IO[bytes]) -> bool:
        """Whether nobody has the file in use; until it is closed, `share` then waits."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
