"""The cache folder: converted tables, decoded media and measurements, all of which can be computed again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def cache_folder() -> Path:
    """`$POLYMODAL_CACHE`, else `$XDG_CACHE_HOME/polymodal`, else `~/.cache/polymodal`. It can be deleted any time."""
    configured = os.environ.get("POLYMODAL_CACHE")
    if configured:
        return Path(configured).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "polymodal"


def media_cache_folder() -> Path:
    """The folder of decoded media, by content and preparation, shared by all runs."""
    return cache_folder() / "media"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder for the prepared tensors of one run."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="run-", dir=cache_folder(), ignore_cleanup_errors=True) as folder:
        yield Path(folder)
