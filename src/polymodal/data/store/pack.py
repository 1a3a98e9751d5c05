"""A pack of a store: many decoded items in a few flat files, which are written once and memory-mapped."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xxhash

from polymodal.core.checksum import FileIdentity, checked_files, content_checksum, file_identity
from polymodal.core.errors import DataError
from polymodal.core.locks import lock_shared
from polymodal.core.paths import cache_writes

KEY_BYTES = 16
#: Bytes of an item in a `.keys` file: its key and its number of records.
ENTRY_BYTES = KEY_BYTES + 8
#: Bytes at the end of a `.keys` file: the checksums of the records and of the file itself. As long as an entry.
CHECKSUM_BYTES = 16 + 8

#: Field name -> dtype and shape of one record.
FieldTypes = dict[str, tuple[np.dtype, tuple[int, ...]]]


#: Errors of the system for a file that cannot be read, now or later.
_UNREADABLE = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EIO}


class DamagedPackError(Exception):
    """The content of a pack is not what was written. `MediaStore` removes the pack, and its items are made again."""


class Pack:
    """`<name>.keys` holds the 16-byte keys of all items, their numbers of records (int64), the 128-bit xxh3 hash of all
    records, and the 64-bit xxh3 hash of the bytes before. `<name>.<field>.raw` holds the concatenated records of all
    items, one file per field.

    Files are written under a temporary name and renamed, the keys last. A pack is valid once its keys exist, so an
    interrupted process leaves nothing that is read. While a process has a pack mapped, it holds a shared lock on its
    files, which prevents eviction.

    The records of a pack are compared with their hash when a process first maps them. This reads the pack once, at
    the speed of memory if the system has it there.

    keys: keys of the items, in order
    checksum: the hash of the records of all fields, in the order of the fields
    counts, starts: number of records of each item `[items]`, and their start in each field
    arrays: by field `[records, ...]`, memory-mapped; None before `open`
    """

    def __init__(self, folder: Path, name: str, keys: list[bytes], counts: np.ndarray, checksum: bytes) -> None:
        self.folder, self.name, self.keys, self.counts, self.checksum = folder, name, keys, counts, checksum
        self.starts = np.cumsum(counts) - counts
        self.arrays: dict[str, np.ndarray] | None = None

    @classmethod
    def read(cls, folder: Path, name: str) -> Pack | None:
        """Read the keys of a pack; None if it was evicted in the meantime.

        Raises:
            DamagedPackError: the keys are damaged.
            DataError: this process may not open more files.
        """
        try:
            with _reading(folder):
                raw = (folder / f"{name}.keys").read_bytes()
        except FileNotFoundError:
            return None
        entries, own = raw[:-8], raw[-8:]
        count, rest = divmod(len(raw) - CHECKSUM_BYTES, ENTRY_BYTES)
        if count < 1 or rest or xxhash.xxh3_64_digest(entries) != own:
            raise DamagedPackError
        keys = [raw[at : at + KEY_BYTES] for at in range(0, count * KEY_BYTES, KEY_BYTES)]
        return cls(folder, name, keys, np.frombuffer(raw, np.int64, count, offset=count * KEY_BYTES), entries[-16:])

    @classmethod
    def write(cls, folder: Path, keys: list[bytes], items: list[dict[str, np.ndarray]], fields: FieldTypes) -> Pack:
        """Write a pack of items, each field `[records, ...]`, and open it.

        Raises:
            PolymodalError: the folder cannot be written to.
        """
        counts = np.array([len(next(iter(item.values()))) for item in items], np.int64)
        records = [[np.ascontiguousarray(item[field]) for item in items] for field in fields]
        checksum = content_checksum(_bytes(array) for arrays in records for array in arrays)
        pack = cls(folder, uuid.uuid4().hex, keys, counts, checksum)
        with cache_writes(folder):
            for field, arrays in zip(fields, records, strict=True):
                _write(pack._file(field), [array.data for array in arrays])
            pack.open(fields, check=False)  # before other processes can find and evict it
            entries = b"".join([*keys, counts.tobytes(), pack.checksum])
            _write(folder / f"{pack.name}.keys", [entries, xxhash.xxh3_64_digest(entries)])
        return pack

    def open(self, fields: FieldTypes, *, check: bool = True) -> bool:
        """Map the pack and lock it; False if it was evicted in the meantime.

        check: compare the records with their hash, unless this process has done so before

        Raises:
            DamagedPackError: the records are damaged.
            DataError: this process may not open more files.
        """
        if self.arrays is not None:
            return True
        arrays, identities = {}, set[FileIdentity]()
        for field, (dtype, shape) in fields.items():
            mapped = self._map(field, dtype, (int(self.counts.sum()), *shape))
            if mapped is None:
                return False
            arrays[field], identity = mapped
            identities.add(identity)
        if (
            check
            and not identities <= checked_files
            and content_checksum(map(_bytes, arrays.values())) != self.checksum
        ):
            raise DamagedPackError
        checked_files.update(identities)
        self.arrays = arrays
        with contextlib.suppress(FileNotFoundError, PermissionError):  # not written yet, or owned by another user
            os.utime(self.folder / f"{self.name}.keys")
        return True

    def _map(self, field: str, dtype: np.dtype, shape: tuple[int, ...]) -> tuple[np.ndarray, FileIdentity] | None:
        """The records of a field, and the identity of the file; None if it was evicted."""
        path = self._file(field)
        try:
            with _reading(self.folder), open(path, "rb") as file:
                lock_shared(file)
                status = os.fstat(file.fileno())
                if status.st_nlink == 0:
                    return None
                if status.st_size != int(np.prod(shape)) * dtype.itemsize:
                    raise DamagedPackError
                identity = file_identity(path, status, self.checksum.hex())
                if status.st_size == 0:
                    return np.empty(shape, dtype), identity
                return np.memmap(file, dtype, mode="r", shape=shape).view(np.ndarray), identity
        except FileNotFoundError:
            if (self.folder / f"{self.name}.keys").exists():
                raise DamagedPackError from None
            return None

    def _file(self, field: str) -> Path:
        return self.folder / f"{self.name}.{field}.raw"


def _bytes(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _write(path: Path, parts: list[bytes] | list[memoryview]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.writelines(parts)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _UNREADABLE:
            raise DamagedPackError from None
        if error.errno != errno.EMFILE:
            raise
        raise DataError(
            "the decoded media are in more files than this process may open; raise the limit (ulimit -n), or delete "
            "them (polymodal cache --clear) and run again: they are decoded again, into fewer files",
            file=str(folder),
        ) from None
