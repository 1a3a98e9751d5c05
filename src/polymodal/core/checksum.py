"""Checksums of content, which show that a file is not what was written: damage by disks, copies and editors.

They detect damage, not malice: whoever can change a file can change its checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

CHECKSUM_KEY = "checksum"
#: The file with the checksums of the other files of a folder in the cache.
CHECKSUMS = "checksums.json"
#: Bytes that are read at once.
_CHUNK = 1 << 20

#: A state of a file: its path, inode, size and time of change, and the checksum that it should have.
FileIdentity = tuple[str, int, int, int, str]
#: The files whose content this process has compared with their checksums.
checked_files: set[FileIdentity] = set()


def file_identity(path: Path, status: os.stat_result, checksum: str) -> FileIdentity:
    """The identity of a file in `checked_files`."""
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns, checksum


def content_checksum(parts: Iterable[bytes | memoryview]) -> bytes:
    """The 128-bit xxh3 hash of the joined parts, 16 bytes. Its speed is that of memory.

    Example:
        >>> content_checksum([b"a", b"b"]) == content_checksum([b"ab"])
        True
    """
    checksum = xxhash.xxh3_128()
    for part in parts:
        checksum.update(part)
    return checksum.digest()


def file_checksum(path: Path) -> str:
    """The 128-bit xxh3 hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return content_checksum(iter(lambda: file.read(_CHUNK), b"")).hex()


def is_unchanged(path: Path, checksum: str) -> bool:
    """Whether there is a file with this `file_checksum`. A process reads a file once, and again if it was changed."""
    if not path.is_file():
        return False
    identity = file_identity(path, path.stat(), checksum)
    if identity not in checked_files and file_checksum(path) != checksum:
        return False
    checked_files.add(identity)
    return True


def sign(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-ready values with their own SHA-256 under the key `checksum`, for a small JSON file."""
    return {**values, CHECKSUM_KEY: _digest(values)}


def signed_values(values: Any) -> dict[str, Any] | None:
    """The values that `sign` was given; None if these are not what was signed.

    Example:
        >>> signed_values(sign({"a": 1}))
        {'a': 1}
        >>> signed_values(sign({"a": 1}) | {"a": 2}) is None
        True
    """
    if not isinstance(values, dict) or CHECKSUM_KEY not in values:
        return None
    rest = {key: value for key, value in values.items() if key != CHECKSUM_KEY}
    return rest if _digest(rest) == values[CHECKSUM_KEY] else None


def read_signed(path: Path) -> dict[str, Any] | None:
    """The values in a small JSON file that `sign` made; None if there is no such file, or if it is damaged."""
    try:
        return signed_values(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()  # as half of a surrogate pair is written
