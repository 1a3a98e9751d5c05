"""The rows of an index: segments on the disk, mapped, and seen as one table from the first row to the last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from polymodal.applications.search.manifest import IndexManifest, IndexSegment, sync_file
from polymodal.core.errors import ArtifactError
from polymodal.metrics.retrieval import normalize_rows

#: Rows that are copied at a time when a segment is written or vectors are checked.
BLOCK = 16_384


@dataclass(frozen=True)
class IndexRows:
    """All rows of an index, deleted ones too, in the order of their ids. A *place* counts through all segments.

    vectors: an array `[rows, size]` of each segment, memory-mapped
    ids: `[rows]` int64, ascending
    columns: the kept columns, memory-mapped; None where none are kept
    live: `[rows]` bool, False for deleted rows; None where there are none
    """

    vectors: list[np.ndarray]
    ids: np.ndarray
    columns: pa.Table | None
    live: np.ndarray | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def count(self) -> int:
        """The number of rows that are not deleted."""
        return len(self.ids) if self.live is None else int(self.live.sum())

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The place `[n]` of each of `ids [n]`, -1 where there is no such row any more."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        there = self.ids[places] == ids
        if self.live is not None:
            there &= self.live[places]
        return np.where(there, places, -1)

    def gather(self, places: np.ndarray) -> np.ndarray:
        """The vectors `[n, size]` float32 at `places [n]`; only those rows are read."""
        ends = np.cumsum([len(part) for part in self.vectors])
        owner = np.searchsorted(ends, places, side="right")
        found = np.empty((len(places), self.vectors[0].shape[1] if self.vectors else 0), np.float32)
        for number in np.unique(owner):
            chosen = owner == number
            part = self.vectors[number]
            found[chosen] = part[places[chosen] - (ends[number] - len(part))]
        return found

    def after(self, place: int) -> list[np.ndarray]:
        """The vectors from `place` on, segment by segment."""
        found, start = [], 0
        for part in self.vectors:
            if start + len(part) > place:
                found.append(part[max(0, place - start) :])
            start += len(part)
        return found


@dataclass(frozen=True)
class RowBatch:
    """Rows to be written: vectors, ids, columns, and which of them; `raw` vectors are brought to length 1."""

    vectors: np.ndarray
    ids: np.ndarray
    columns: pa.Table | None
    chosen: np.ndarray
    raw: bool = False

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.vectors), BLOCK):
            block = self.vectors[start : start + BLOCK]
            chosen = block[self.chosen[start : start + BLOCK]]
            yield unit_vectors(chosen) if self.raw else chosen


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """`vectors [rows, size]` at length 1, float32; none of them is 0."""
    return normalize_rows(np.asarray(vectors, np.float64)).astype(np.float32)


def read_rows(folder: Path, manifest: IndexManifest) -> IndexRows:
    """Map the rows of an index; no vector is read.

    Raises:
        ArtifactError: a file is damaged.
    """
    vectors, ids, tables = [], [np.empty(0, np.int64)], []
    for one in manifest.segments:
        array = _memory_map(folder / one.vectors.name, (one.rows, manifest.size), manifest.dtype)
        vectors.append(array)
        ids.append(np.asarray(_memory_map(folder / one.ids.name, (one.rows,), "int64")))
        if one.columns is not None:
            tables.append(_columns(folder / one.columns.name, one.rows))
    every = np.concatenate(ids)
    live = None
    if manifest.deleted is not None:
        live = ~np.isin(every, read_array(folder / manifest.deleted.name))
    return IndexRows(vectors, every, pa.concat_tables(tables) if tables else None, live)


def write_segment(folder: Path, number: int, parts: list[RowBatch], manifest: IndexManifest) -> IndexSegment:
    """Write the chosen rows of `parts`, whose ids ascend, as one segment; at least one row is chosen."""
    name = f"segment-{number:06d}"
    rows = sum(int(part.chosen.sum()) for part in parts)
    path = folder / f"{name}.vectors.npy"
    sink = np.lib.format.open_memmap(path, "w+", dtype=manifest.dtype, shape=(rows, manifest.size))
    start = 0
    for part in parts:
        for block in part.blocks():
            sink[start : start + len(block)] = block
            start += len(block)
    sink.flush()
    del sink
    ids = np.concatenate([part.ids[part.chosen] for part in parts])
    np.save(folder / f"{name}.ids.npy", ids, allow_pickle=False)
    columns = None
    tables = [part.columns.filter(pa.array(part.chosen)) for part in parts if part.columns is not None]
    if tables:
        table = pa.concat_tables(tables)
        with pa.OSFile(str(folder / f"{name}.columns.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
            out.write_table(table, max_chunksize=BLOCK)
        columns = sync_file(folder / f"{name}.columns.arrow")
    return IndexSegment(
        rows=rows,
        first=int(ids[0]),
        last=int(ids[-1]),
        vectors=sync_file(path),
        ids=sync_file(folder / f"{name}.ids.npy"),
        columns=columns,
    )


def read_array(path: Path) -> np.ndarray:
    """A small array of the index.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None


def _memory_map(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ArtifactError(f"{path} holds {array.dtype} {array.shape}, not {dtype} {shape}; build the index again")
    return array


def _columns(path: Path, rows: int) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    if len(table) != rows:
        raise ArtifactError(f"{path} has {len(table)} rows, not {rows}; build the index again")
    return table
