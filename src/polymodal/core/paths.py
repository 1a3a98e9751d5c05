"""Where Polymodal keeps what may be computed again: converted tables, decoded media, measurements."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def cache_folder() -> Path:
    """`$POLYMODAL_CACHE`, else `$XDG_CACHE_HOME/polymodal`, else `~/.cache/polymodal`. May be deleted at any time."""
    own = os.environ.get("POLYMODAL_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "polymodal"


def media_cache_folder() -> Path:
    """Where decoded media are kept, by content and preparation, for every run."""
    return cache_folder() / "media"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for the prepared tensors of one run, deleted at its end."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="run-", dir=cache_folder(), ignore_cleanup_errors=True) as folder:
        yield Path(folder)
