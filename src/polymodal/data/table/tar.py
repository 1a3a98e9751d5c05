"""Tar files of samples, as WebDataset writes them: the files of one row have one name and different endings.

`0001.jpg`, `0001.txt` and `0001.json` are a row with the key `0001`. Each ending is a column: bytes, or the text of a
small text file. A JSON object becomes a column for each of its keys, named `json.caption`.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from polymodal.core.errors import DataError
from polymodal.core.paths import cache_writes
from polymodal.core.writing import atomic_path
from polymodal.data.objects import ObjectFile, Root, object_errors
from polymodal.data.table.arrow_cache import map_file
from polymodal.data.table.base import StoredTable, Table
from polymodal.data.table.cell_kinds import CellKind
from polymodal.data.table.column_table import ColumnTable
from polymodal.data.table.columns import from_arrow
from polymodal.data.table.source_part import TableFile

TAR = ".tar"
KEY = "key"
#: Endings of files that are read as texts, whole numbers and JSON. All others are bytes.
TEXTS, WHOLE_NUMBERS, JSON = ("txt", "text", "transcript"), ("cls", "cls2", "index", "count"), ("json", "jsn")
#: Part of the name of every index in the cache: increase it when the content changes.
_VERSION = 1


def open_tars(files: Sequence[ObjectFile], *, name: str, root: Root | None, cache: Path) -> Table:
    """The rows of tar files, in the order of the files. They are read once for their index; later only the bytes of the
    cells that are used are read.

    cache: folder where the index is kept

    Raises:
        DataError: a file is damaged or has no rows, or the names of two columns are the same.
    """
    identity = "\n".join([str(_VERSION), *(file.identity for file in files)])
    index = cache / f"{xxhash.xxh3_128_hexdigest(identity.encode())}.jsonl"
    if not index.is_file():
        with cache_writes(cache), atomic_path(index) as part, part.open("w", encoding="utf-8") as lines:
            for number, file in enumerate(files):
                for row in _rows(number, file):
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    columns = from_arrow(map_file(TableFile(index), cache))
    media = {column[1:]: cells for column, cells in columns.items() if column.startswith("*")}
    small = {column: cells for column, cells in columns.items() if not column.startswith("*")}
    if not columns:
        raise DataError("the tar files have no rows", file=name)
    key = xxhash.xxh3_128_hexdigest(identity.encode())
    return TarTable(files, ColumnTable({**small, **media}, name=name, root=root), list(media), key)


class TarTable(StoredTable):
    """Rows of tar files. Small cells are in the index, and the bytes of the others are read where they are.

    index: the rows; a cell of one of the `media` columns is the number of its file, and the place and size in it
    key: a hash of the files
    """

    def __init__(self, files: Sequence[ObjectFile], index: Table, media: Sequence[str], key: str) -> None:
        self.files, self._index, self._media, self._key = list(files), index, frozenset(media), key
        self.name, self.root, self._length, self._kinds = index.name, index.root, len(index), {}
        self._open: tuple[int, Any] | None = None

    @property
    def columns(self) -> list[str]:
        return self._index.columns

    def column_type(self, column: str) -> pa.DataType | None:
        return pa.binary() if column in self._media else self._index.column_type(column)

    def read_with(self, kinds: Mapping[str, CellKind]) -> Table:
        index = self._index.read_with({column: kind for column, kind in kinds.items() if column not in self._media})
        if index is self._index:
            return self
        table = TarTable(self.files, index, list(self._media), self._key)
        table.folder = self.folder
        return table

    def values(self, column: str, rows: np.ndarray) -> pa.ChunkedArray | list[Any]:
        cells = self._index.values(column, rows)
        if column not in self._media:
            return cells
        places = cells.to_pylist() if isinstance(cells, pa.ChunkedArray) else cells
        return pa.chunked_array([pa.array([self._bytes(place) for place in places], pa.binary())])

    def source_key(self) -> str:
        return self._key

    def _bytes(self, place: list[int] | None) -> bytes | None:
        if place is None:
            return None
        number, start, size = place
        path = self.files[number].path
        with object_errors(path):
            if self._open is None or self._open[0] != number:
                self._open = (number, path.open())
            found: bytes = self._open[1].read_at(size, start)
        if len(found) != size:
            raise DataError("the file has changed since its index was made", file=path.shown)
        return found

    def _row_bytes(self, columns: list[str]) -> float:
        rows = np.linspace(0, self._length - 1, min(64, self._length)).astype(np.int64)
        media = [self._index.values(column, rows) for column in columns if column in self._media]
        places = [place for cells in media for place in (cells.to_pylist() if hasattr(cells, "to_pylist") else cells)]
        return sum(place[2] for place in places if place is not None) / len(rows) + 64.0 * len(columns)


def _rows(number: int, file: ObjectFile) -> Iterator[dict[str, Any]]:
    """The rows of a tar file: small cells by column, and the places of the others by `*` and column."""
    row: dict[str, Any] = {}
    with object_errors(file.path), file.path.open() as source:
        try:
            with tarfile.open(None, "r:", _Buffered(source)) as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    stem, _, ending = name.partition(".")
                    if not member.isfile() or not stem or not ending:
                        continue
                    key = f"{folder}/{stem}" if folder else stem
                    if row and row[KEY] != key:
                        yield row
                        row = {}
                    row[KEY] = key
                    found = _cells(ending.lower(), member, archive, [number, member.offset_data, member.size], file)
                    given = {column.removeprefix("*") for column in row}
                    if twice := ", ".join(column.removeprefix("*") for column in found if column.strip("*") in given):
                        raise DataError(f"the row {key!r} has two files for the column {twice}", file=file.path.shown)
                    row |= found
        except tarfile.TarError as error:
            raise DataError(f"the file is damaged or not a tar file ({error})", file=file.path.shown) from error
    if row:
        yield row


def _cells(
    ending: str, member: tarfile.TarInfo, archive: tarfile.TarFile, place: list[int], file: ObjectFile
) -> dict[str, Any]:
    """The cells of one file of a row."""
    if ending not in (*TEXTS, *WHOLE_NUMBERS, *JSON):
        return {f"*{ending}": place}
    opened = archive.extractfile(member)
    assert opened is not None
    try:
        text = opened.read().decode("utf-8")
        if ending in TEXTS:
            return {ending: text}
        if ending in WHOLE_NUMBERS:
            return {ending: int(text)}
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{member.name!r} cannot be read as {ending} ({error})", file=file.path.shown) from error
    return {f"{ending}.{name}": cell for name, cell in found.items()} if isinstance(found, dict) else {ending: found}


class _Buffered(io.RawIOBase):
    """A file of an object store for `tarfile`: headers are read in large pieces."""

    PIECE = 1 << 20

    def __init__(self, source: Any) -> None:
        super().__init__()
        self._source, self._size, self._place = source, source.size(), 0
        self._start, self._piece = 0, b""

    def seek(self, place: int, whence: int = 0) -> int:
        self._place = place + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        size = self._size - self._place if size < 0 else min(size, self._size - self._place)
        if size <= 0:
            return b""
        offset = self._place - self._start
        if offset < 0 or offset + size > len(self._piece):
            self._start, offset = self._place, 0
            self._piece = self._source.read_at(min(max(size, self.PIECE), self._size - self._place), self._place)
        self._place += size
        return self._piece[offset : offset + size]
