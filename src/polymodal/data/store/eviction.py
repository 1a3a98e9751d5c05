"""Size limit of the cache of decoded media, with eviction of the least recently used packs."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polymodal.core.caller import warn_caller
from polymodal.core.errors import PolymodalError
from polymodal.core.locks import try_lock_exclusive
from polymodal.core.paths import CacheWarning
from polymodal.data.store.pack import CHECKSUM_BYTES, ENTRY_BYTES

CACHE_VARIABLE = "POLYMODAL_CACHE_GIB"
DEFAULT_GIB = 20.0
#: Seconds after which files without keys count as left by an interrupted process, not as a pack being written.
ABANDONED_SECONDS = 3600.0
#: Suffixes of store files (`.u8` in earlier versions). Other files are never deleted.
_SUFFIXES = {".keys", ".raw", ".partial", ".u8"}

_warned: set[Path] = set()


def cache_budget() -> int:
    """Maximum bytes of decoded media on disk: `$POLYMODAL_CACHE_GIB`, default 20 GiB.

    Raises:
        PolymodalError: the variable is not a positive number.
    """
    text = os.environ.get(CACHE_VARIABLE, "").strip()
    try:
        gib = float(text) if text else DEFAULT_GIB
    except ValueError:
        gib = math.nan
    if not (gib > 0 and math.isfinite(gib)):
        raise PolymodalError(
            f"the environment variable {CACHE_VARIABLE} must be a positive number of GiB, not {text!r}"
        )
    return int(gib * 2**30)


@dataclass(frozen=True)
class PackFiles:
    """The files of one pack on disk.

    media: kind of media, from the name of the store's folder; "other" for stores of earlier versions
    keys: the file that makes the pack valid; None if it is not or was never written
    last_used: when a process last opened the pack, in seconds since 1970
    """

    media: str
    keys: Path | None
    files: tuple[Path, ...]
    items: int
    size: int
    last_used: float


def list_packs(folder: Path) -> list[PackFiles]:
    """Every pack of every store below `folder`. Files that disappear meanwhile are skipped."""
    found = []
    for store in _folders(folder):
        kind, dash, _ = store.name.partition("-")
        groups: dict[str, list[tuple[Path, os.stat_result]]] = {}
        for entry in sorted(os.scandir(store), key=lambda entry: entry.name):
            if os.path.splitext(entry.name)[1] not in _SUFFIXES:
                continue
            with contextlib.suppress(OSError):  # it is gone, or a link to itself
                status = entry.stat()
                groups.setdefault(entry.name.partition(".")[0], []).append((Path(entry.path), status))
        for group in groups.values():
            keys = [(path, status) for path, status in group if path.suffix == ".keys"]
            found.append(
                PackFiles(
                    kind if dash else "other",
                    keys[0][0] if keys else None,
                    tuple(path for path, _ in group if path.suffix != ".keys"),
                    max(0, keys[0][1].st_size - CHECKSUM_BYTES) // ENTRY_BYTES if keys and dash else 0,
                    sum(status.st_size for _, status in group),
                    max(status.st_mtime for _, status in keys or group),
                )
            )
    return found


@dataclass(frozen=True)
class KindUsage:
    """Contents of the stores of one kind of media. `items` are not counted in stores of earlier versions."""

    items: int
    size: int


def usage(folder: Path) -> dict[str, KindUsage]:
    """Items and bytes of the stores below `folder` by kind of media, in alphabetical order."""
    kinds: dict[str, KindUsage] = {}
    for pack in sorted(list_packs(folder), key=lambda pack: pack.media):
        before = kinds.get(pack.media, KindUsage(0, 0))
        kinds[pack.media] = KindUsage(before.items + pack.items, before.size + pack.size)
    return kinds


def enforce_budget(folder: Path, budget: int) -> None:
    """Evict packs down to `budget` bytes. If packs in use exceed it, warn once per process."""
    left = evict(folder, budget)
    if left > budget and folder not in _warned:
        _warned.add(folder)
        warn_caller(
            f"decoded media in use take {left / 2**30:.3g} GiB, over the cache limit of {budget / 2**30:.3g} GiB; "
            f"they are kept while in use. Set {CACHE_VARIABLE} to raise the limit",
            CacheWarning,
        )


def evict(folder: Path, budget: int) -> int:
    """Delete the least recently used packs until those below `folder` take at most `budget` bytes. Returns the bytes
    left.

    Packs that a live process has open are kept, and so are packs of other users. Files left by an interrupted process
    are deleted after an hour.
    """
    packs = sorted(list_packs(folder), key=lambda pack: pack.last_used)
    left = sum(pack.size for pack in packs)
    if left <= budget:
        return left
    abandoned = [pack for pack in packs if pack.keys is None and pack.last_used < time.time() - ABANDONED_SECONDS]
    for pack in [*abandoned, *(pack for pack in packs if pack.keys is not None)]:
        if left <= budget:
            break
        if _remove(pack):
            left -= pack.size
    return left


def remove_pack(folder: Path, name: str) -> bool:
    """Delete the files of the pack `name` of a store, unless a process has it open. Returns whether they are gone."""
    files = [path for path in folder.glob(f"{name}.*") if path.suffix in _SUFFIXES]
    others = tuple(path for path in files if path.suffix != ".keys")
    return _remove(PackFiles("", folder / f"{name}.keys", others, 0, 0, 0.0))


def _remove(pack: PackFiles) -> bool:
    """Delete a pack that no process has open. The keys are deleted first, so that no process finds a partial pack."""
    with contextlib.ExitStack() as held:
        try:
            for path in pack.files:
                with contextlib.suppress(FileNotFoundError):
                    if not try_lock_exclusive(held.enter_context(open(path, "rb"))):
                        return False
            for path in (*([pack.keys] if pack.keys else []), *pack.files):
                path.unlink(missing_ok=True)
        except OSError:  # of another user, or not a file
            return False
    return True


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
