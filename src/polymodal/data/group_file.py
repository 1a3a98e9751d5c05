"""A file of arrays in groups of rows, of which each can be read alone, from a disk or an object store.

The file is a safetensors file: any program that knows the format reads it. The arrays that concern all rows come first,
then the arrays of one group after the other, so a group is one read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
import xxhash

from polymodal.core.errors import DataError
from polymodal.data.objects import object_errors
from polymodal.data.shard_folder import ShardFolder

#: Names of dtypes in the safetensors format.
_DTYPES = {"bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64"} | {
    f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
_NAMES = {name: np.dtype(dtype) for dtype, name in _DTYPES.items()}
#: Bytes that are read at first: the header of most files.
HEADER_BYTES = 1 << 16
#: The key of our facts among the metadata of the file.
FACTS = "facts"
ROWS = "rows"

Arrays = dict[str, np.ndarray]


class _Field(NamedTuple):
    """An array of a file: `start` and `end` are its first byte, and the byte after its last one."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int = 0
    end: int = 0


class GroupFileWriter:
    """Writes a file of groups. The groups are kept in a temporary file until `finish`, so memory holds one of them.

    folder: the folder of the temporary file, which has no name there

    Example:
        >>> writer = GroupFileWriter(Path())
        >>> writer.add({"x": np.array([1, 2])})
        >>> writer.add({"x": np.array([3])})
        >>> writer.finish(Path("part-0.safetensors"), {"label": np.array([0, 1, 0])}, {"rows": 3})
        >>> writer.close()
        >>> file = GroupFile.open(ShardFolder(Path()), "part-0.safetensors")
        >>> file.facts["rows"], file.rows()["label"].tolist(), file.group(1)["x"].tolist()
        (3, [0, 1, 0], [3])
    """

    def __init__(self, folder: Path) -> None:
        self._payload = TemporaryFile(dir=folder)  # noqa: SIM115  # closed by close
        self._groups: list[list[_Field]] = []
        self._checksums: list[str] = []

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add the arrays of the next group."""
        checksum = xxhash.xxh3_128()
        for array in arrays.values():
            data = np.ascontiguousarray(array).data
            if array.size:
                self._payload.write(data)
                checksum.update(data)
        self._groups.append([_Field(name, array.dtype, array.shape) for name, array in arrays.items()])
        self._checksums.append(checksum.hexdigest())

    def finish(self, path: Path, rows: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Write the file.

        rows: arrays that concern all rows
        facts: what JSON can hold
        """
        parts = [np.ascontiguousarray(array).tobytes() for array in rows.values()]
        checksums = [xxhash.xxh3_128_hexdigest(b"".join(parts)), *self._checksums]
        header: dict[str, Any] = {"__metadata__": {FACTS: json.dumps({**facts, "checksums": checksums})}}
        place = 0
        for name, array in rows.items():
            place = _describe(header, ROWS, _Field(name, array.dtype, array.shape), place)
        for number, group in enumerate(self._groups):
            for field in group:
                place = _describe(header, str(number), field, place)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self._payload.seek(0)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.writelines(parts)
            shutil.copyfileobj(self._payload, file, 8 << 20)

    def close(self) -> None:
        """Delete the temporary file."""
        self._payload.close()


def _describe(header: dict[str, Any], group: str, field: _Field, place: int) -> int:
    """Add a field that begins at `place` to the header; return where it ends."""
    end = place + field.dtype.itemsize * int(np.prod(field.shape))
    described = {"dtype": _DTYPES[field.dtype.name], "shape": list(field.shape), "data_offsets": [place, end]}
    header[f"{group}.{field.name}"] = described
    return end


@dataclass(frozen=True)
class GroupFile:
    """A file of groups, of which the header has been read.

    facts: the facts that were written, with the `checksums` of the arrays of all rows and of each group
    fields: the arrays by group: `ROWS`, "0", "1" ...
    begin: where the arrays begin in the file
    """

    folder: ShardFolder
    name: str
    facts: dict[str, Any]
    fields: dict[str, list[_Field]]
    begin: int

    @classmethod
    def open(cls, folder: ShardFolder, name: str) -> GroupFile:
        """Read the header of a file.

        Raises:
            DataError: it cannot be read, or is no such file.
        """
        with _errors(folder, name), folder.open(name) as file:
            found = file.read_at(min(HEADER_BYTES, file.size()), 0)
            size = int.from_bytes(found[:8], "little")
            if size > file.size() - 8:
                raise ValueError("the header is longer than the file")
            text = found[8 : 8 + size] if size + 8 <= len(found) else file.read_at(size, 8)
            header = json.loads(text)
            facts = json.loads(header.pop("__metadata__")[FACTS])
            fields: dict[str, list[_Field]] = {}
            for key, one in header.items():
                group, _, name_in_group = key.partition(".")
                field = _Field(name_in_group, _NAMES[one["dtype"]], tuple(one["shape"]), *one["data_offsets"])
                fields.setdefault(group, []).append(field)
        return cls(folder, name, facts, fields, 8 + size)

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self.begin + max((one.end for fields in self.fields.values() for one in fields), default=0)

    def rows(self) -> Arrays:
        """The arrays that concern all rows.

        Raises:
            DataError: the file cannot be read, or is damaged.
        """
        return self._read(ROWS, 0)

    def group(self, number: int) -> Arrays:
        """The arrays of a group.

        Raises:
            DataError: the file cannot be read, or is damaged.
        """
        return self._read(str(number), number + 1)

    def _read(self, key: str, checksum: int) -> Arrays:
        fields = self.fields.get(key, [])
        start, end = min((one.start for one in fields), default=0), max((one.end for one in fields), default=0)
        with _errors(self.folder, self.name), self.folder.open(self.name) as file:
            data = file.read_at(end - start, self.begin + start) if end > start else b""
            if xxhash.xxh3_128_hexdigest(data) != self.facts["checksums"][checksum]:
                raise ValueError("its content is not what was written")
        found = {}
        for field in fields:
            array = np.frombuffer(data[field.start - start : field.end - start], field.dtype)
            found[field.name] = array.reshape(field.shape)
        return found


@contextmanager
def _errors(folder: ShardFolder, name: str) -> Iterator[None]:
    """Turn what is wrong with a file into a `DataError` that names it."""
    path = folder.path(name)
    try:
        with object_errors(path):
            yield
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"the file is damaged, or no shard of prepared rows ({error}): delete it and run `polymodal prepare` again",
            file=path.shown,
        ) from error
