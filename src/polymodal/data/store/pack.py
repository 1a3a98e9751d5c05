"""A pack of a store: many decoded items in a few flat files, which are written once and memory-mapped."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path

import numpy as np

from polymodal.core.errors import DataError
from polymodal.data.store.locks import lock_shared

KEY_BYTES = 16
#: Bytes of an item in a `.keys` file: its key and its number of records.
ENTRY_BYTES = KEY_BYTES + 8

#: Field name -> dtype and shape of one record.
FieldTypes = dict[str, tuple[np.dtype, tuple[int, ...]]]


class Pack:
    """`<name>.keys` holds the 16-byte keys of all items, then their numbers of records (int64). `<name>.<field>.raw`
    holds the concatenated records of all items, one file per field.

    Files are written under a temporary name and renamed, the keys last. A pack is valid once its keys exist, so an
    interrupted process leaves nothing that is read. While a process has a pack mapped, it holds a shared lock on its
    files, which prevents eviction.

    keys: keys of the items, in order
    counts, starts: number of records of each item `[items]`, and their start in each field
    arrays: by field `[records, ...]`, memory-mapped; None before `open`
    """

    def __init__(self, folder: Path, name: str, keys: list[bytes], counts: np.ndarray) -> None:
        self.folder, self.name, self.keys, self.counts = folder, name, keys, counts
        self.starts = np.cumsum(counts) - counts
        self.arrays: dict[str, np.ndarray] | None = None

    @classmethod
    def read(cls, folder: Path, name: str) -> Pack | None:
        """Read the keys of a pack; None if it was evicted in the meantime.

        Raises:
            DataError: the pack is damaged.
        """
        try:
            raw = (folder / f"{name}.keys").read_bytes()
        except FileNotFoundError:
            return None
        count, rest = divmod(len(raw), ENTRY_BYTES)
        if count == 0 or rest:
            raise _damaged(folder, name)
        counts = np.frombuffer(raw, np.int64, count, offset=count * KEY_BYTES)
        if counts.min() < 0:
            raise _damaged(folder, name)
        return cls(folder, name, [raw[at : at + KEY_BYTES] for at in range(0, count * KEY_BYTES, KEY_BYTES)], counts)

    @classmethod
    def write(cls, folder: Path, keys: list[bytes], items: list[dict[str, np.ndarray]], fields: FieldTypes) -> Pack:
        """Write a pack of items, each field `[records, ...]`, and open it."""
        counts = np.array([len(next(iter(item.values()))) for item in items], np.int64)
        pack = cls(folder, uuid.uuid4().hex, keys, counts)
        for field in fields:
            _write(pack._file(field), [np.ascontiguousarray(item[field]).data for item in items])
        pack.open(fields)  # before other processes can find and evict it
        _write(folder / f"{pack.name}.keys", [b"".join(keys), counts.tobytes()])
        return pack

    def open(self, fields: FieldTypes) -> bool:
        """Map the pack and lock it; False if it was evicted in the meantime.

        Raises:
            DataError: the pack is damaged, or this process may not open more files.
        """
        if self.arrays is not None:
            return True
        arrays = {}
        for field, (dtype, shape) in fields.items():
            array = self._map(field, dtype, (int(self.counts.sum()), *shape))
            if array is None:
                return False
            arrays[field] = array
        self.arrays = arrays
        with contextlib.suppress(FileNotFoundError, PermissionError):  # not written yet, or owned by another user
            os.utime(self.folder / f"{self.name}.keys")
        return True

    def _map(self, field: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray | None:
        try:
            with open(self._file(field), "rb") as file:
                lock_shared(file)
                status = os.fstat(file.fileno())
                if status.st_nlink == 0:
                    return None
                if status.st_size != int(np.prod(shape)) * dtype.itemsize:
                    raise _damaged(self.folder, self.name)
                if status.st_size == 0:
                    return np.empty(shape, dtype)
                return np.memmap(file, dtype, mode="r", shape=shape).view(np.ndarray)
        except FileNotFoundError:
            if (self.folder / f"{self.name}.keys").exists():
                raise _damaged(self.folder, self.name) from None
            return None
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise DataError(
                "the decoded media are in more files than this process may open; raise the limit (ulimit -n), or "
                "delete them (polymodal cache --clear) and run again: they are decoded again, into fewer files",
                file=str(self.folder),
            ) from None

    def _file(self, field: str) -> Path:
        return self.folder / f"{self.name}.{field}.raw"


def _write(path: Path, parts: list[bytes] | list[memoryview]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "wb") as file:
        file.writelines(parts)
    os.replace(partial, path)


def _damaged(folder: Path, name: str) -> DataError:
    return DataError(
        f"this pack of decoded media is damaged; delete the files {name}.* in {folder} and run again: they are "
        "decoded again",
        file=str(folder / f"{name}.keys"),
    )
