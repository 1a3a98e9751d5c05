"""The measured choices of `autotune`: one file for each processor and network.

Runs in several processes, and machines with a shared home directory, use one folder. A file is written whole, and the
first choice stays, so that all later runs compute in the same way.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from polymodal.core.caller import warn_caller
from polymodal.core.checksum import read_signed, sign
from polymodal.core.paths import CacheWarning, cache_writes


def read_choice(folder: Path, key: str) -> dict[str, Any]:
    """The stored choice of a key; empty if there is none. A damaged file is deleted, with a warning."""
    path = folder / f"{key}.json"
    if not path.is_file():
        return {}
    choice = read_signed(path)
    if choice is None:
        warn_caller(f"{path} in the cache is damaged: it is measured again", CacheWarning)
        with cache_writes(folder):
            path.unlink(missing_ok=True)
    return choice or {}


def keep_choice(folder: Path, key: str, choice: dict[str, Any]) -> None:
    """Store the choice of a key, unless another process has stored one.

    Raises:
        PolymodalError: the folder cannot be written to.
    """
    path, part = folder / f"{key}.json", folder / f"{key}.{os.getpid()}-{time.time_ns()}"
    with cache_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(sign(choice)), encoding="utf-8")
        if path.exists():
            part.unlink()
        else:
            part.replace(path)
