"""The budget of the folder of decoded media: what was used least recently makes room."""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polymodal.core.errors import PolymodalError
from polymodal.data.store.locks import exclusive
from polymodal.data.store.pack import ENTRY_BYTES

VARIABLE = "POLYMODAL_CACHE_GIB"
DEFAULT_GIB = 20.0
#: Seconds after which files without keys are what an interrupted process left, and not a pack being written.
ABANDONED = 3600.0
#: Of the files of stores, `.u8` in those of earlier versions; whatever else lies there is left alone.
_SUFFIXES = {".keys", ".raw", ".partial", ".u8"}

_warned: set[Path] = set()


class CacheWarning(UserWarning):
    """Decoded media that are in use take more room than their budget."""


def media_budget() -> int:
    """Bytes that decoded media may take on disk: `$POLYMODAL_CACHE_GIB`, else 20 GiB.

    Raises:
        PolymodalError: the variable is not a positive number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    try:
        gib = float(text) if text else DEFAULT_GIB
    except ValueError:
        gib = math.nan
    if not (gib > 0 and math.isfinite(gib)):
        raise PolymodalError(f"the environment variable {VARIABLE} must be a positive number of GiB, not {text!r}")
    return int(gib * 2**30)


@dataclass(frozen=True)
class StoredPack:
    """The files of one pack on disk.

    kind: of media, as the name of the store's folder says; stores of earlier versions are "other"
    keys: the file that makes it count; None if it is not written yet, or never was
    used: when a process last opened it, in seconds since 1970
    """

    kind: str
    keys: Path | None
    files: tuple[Path, ...]
    items: int
    size: int
    used: float


def stored_packs(folder: Path) -> list[StoredPack]:
    """Every pack of every store below `folder`; files that vanish meanwhile do not count."""
    found = []
    for store in _folders(folder):
        kind, dash, _ = store.name.partition("-")
        groups: dict[str, list[tuple[Path, os.stat_result]]] = {}
        for entry in sorted(os.scandir(store), key=lambda entry: entry.name):
            if os.path.splitext(entry.name)[1] not in _SUFFIXES:
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                groups.setdefault(entry.name.partition(".")[0], []).append((Path(entry.path), status))
        for group in groups.values():
            keys = [(path, status) for path, status in group if path.suffix == ".keys"]
            found.append(
                StoredPack(
                    kind if dash else "other",
                    keys[0][0] if keys else None,
                    tuple(path for path, _ in group if path.suffix != ".keys"),
                    keys[0][1].st_size // ENTRY_BYTES if keys and dash else 0,
                    sum(status.st_size for _, status in group),
                    max(status.st_mtime for _, status in keys or group),
                )
            )
    return found


@dataclass(frozen=True)
class KindUsage:
    """What the stores of one kind of media hold; `items` are not counted in stores of earlier versions."""

    items: int
    size: int


def usage(folder: Path) -> dict[str, KindUsage]:
    """Items and bytes of the stores below `folder` by kind of media, in alphabetical order."""
    kinds: dict[str, KindUsage] = {}
    for pack in sorted(stored_packs(folder), key=lambda pack: pack.kind):
        before = kinds.get(pack.kind, KindUsage(0, 0))
        kinds[pack.kind] = KindUsage(before.items + pack.items, before.size + pack.size)
    return kinds


def keep_budget(folder: Path, budget: int) -> None:
    """Evict down to `budget`; if what is in use takes more, warn once in this process."""
    left = evict(folder, budget)
    if left > budget and folder not in _warned:
        _warned.add(folder)
        warnings.warn(
            f"decoded media in use take {left / 2**30:.3g} GiB, more than their budget of {budget / 2**30:.3g} GiB; "
            f"they are kept while they are in use. Set {VARIABLE} to allow more",
            CacheWarning,
            stacklevel=4,
        )


def evict(folder: Path, budget: int) -> int:
    """Delete the packs least recently used until those below `folder` take `budget` bytes or less; bytes left.

    Packs that a living process has open stay, and so do those of other users. What an interrupted process left behind
    is deleted after an hour.
    """
    packs = sorted(stored_packs(folder), key=lambda pack: pack.used)
    left = sum(pack.size for pack in packs)
    if left <= budget:
        return left
    abandoned = [pack for pack in packs if pack.keys is None and pack.used < time.time() - ABANDONED]
    for pack in [*abandoned, *(pack for pack in packs if pack.keys is not None)]:
        if left <= budget:
            break
        if _remove(pack):
            left -= pack.size
    return left


def _remove(pack: StoredPack) -> bool:
    """Delete a pack that nobody has open, its keys first so that nobody finds half of it."""
    with contextlib.ExitStack() as held:
        try:
            for path in pack.files:
                with contextlib.suppress(FileNotFoundError):
                    if not exclusive(held.enter_context(open(path, "rb"))):
                        return False
            for path in (*([pack.keys] if pack.keys else []), *pack.files):
                path.unlink(missing_ok=True)
        except PermissionError:
            return False
    return True


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
