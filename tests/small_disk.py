"""A disk that is full: no file may grow beyond a size."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

needs_limits = pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit of the size of files")


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Writes of this process beyond `size` bytes of a file fail with an `OSError`."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
