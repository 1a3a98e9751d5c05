"""The cache folder: converted tables, decoded media and measurements, all of which can be computed again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from polymodal.core.errors import PolymodalError, PolymodalWarning

CACHE_VARIABLE = "POLYMODAL_CACHE"


class CacheWarning(PolymodalWarning):
    """A file of the cache is damaged and is made again, or decoded media in use exceed the size limit of the cache."""


def cache_folder() -> Path:
    """`$POLYMODAL_CACHE`, else `$XDG_CACHE_HOME/polymodal`, else `~/.cache/polymodal`. It can be deleted any time."""
    configured = os.environ.get(CACHE_VARIABLE)
    if configured:
        return Path(configured).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "polymodal"


def media_cache_folder() -> Path:
    """The folder of decoded media, by content and preparation, shared by all runs."""
    return cache_folder() / "media"


@contextmanager
def cache_writes(folder: Path) -> Iterator[None]:
    """Write files of the cache, in `folder`.

    Raises:
        PolymodalError: the system refuses a write; the message names the cache and the variable that moves it.
    """
    try:
        yield
    except OSError as error:
        raise PolymodalError(
            f"the cache folder {folder} cannot be written to ({error.strerror or error}); free some space or allow "
            f"writing there, or set the environment variable {CACHE_VARIABLE} to another folder"
        ) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder for the prepared tensors of one run, in the cache folder.

    Raises:
        PolymodalError: the cache folder cannot be written to.
    """
    with cache_writes(cache_folder()):
        cache_folder().mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(prefix="run-", dir=cache_folder(), ignore_cleanup_errors=True)
    with scratch as folder:
        yield Path(folder)
