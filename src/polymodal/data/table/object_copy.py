"""Copies of objects that cannot be read by parts: a CSV file in an object store is copied once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xxhash

from polymodal.core.paths import cache_writes
from polymodal.core.writing import atomic_path
from polymodal.data.objects import ObjectFile, object_errors

CHUNK_BYTES = 1 << 20


def local_copy(file: ObjectFile, cache: Path) -> Path:
    """The file on this machine; of an object store, a copy of it in `cache`, made once for each version.

    Raises:
        DataError: the object cannot be read.
        PolymodalError: the cache cannot be written to.
    """
    if file.path.local is not None:
        return file.path.local
    folder = cache / f"{xxhash.xxh3_128_hexdigest(file.identity.encode())}.object"
    copy = folder / file.path.name
    if not copy.is_file():
        with object_errors(file.path):
            source = file.path.open()
        with source, cache_writes(cache), atomic_path(copy) as part, part.open("wb") as target:
            while chunk := _read(source, file):
                target.write(chunk)
    return copy


def _read(source: Any, file: ObjectFile) -> bytes:
    with object_errors(file.path):
        chunk: bytes = source.read(CHUNK_BYTES)
        return chunk
