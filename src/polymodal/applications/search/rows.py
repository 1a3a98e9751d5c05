"""The rows of an index: memory-mapped segments, accessed as one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from polymodal.applications.search.manifest import IndexManifest, IndexSegment, sync_file
from polymodal.checkpoint.reading import parsing
from polymodal.core.errors import ArtifactError
from polymodal.metrics.retrieval import normalize_rows

#: Number of rows that are copied at once when a segment is written or vectors are checked.
BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class IndexRows:
    """All rows of an index, including deleted rows, in the order of their ids. A position counts through all segments.

    vectors: one memory-mapped array `[rows, dim]` per segment
    ids: `[rows]` int64, ascending
    columns: the memory-mapped metadata columns; None if there are none
    live: `[rows]` bool, False for deleted rows; None if no row is deleted
    """

    vectors: list[np.ndarray]
    ids: np.ndarray
    columns: pa.Table | None
    live: np.ndarray | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_live(self) -> int:
        """The number of rows that are not deleted."""
        return len(self.ids) if self.live is None else int(self.live.sum())

    def positions_of(self, ids: np.ndarray) -> np.ndarray:
        """The position `[n]` of each of `ids [n]`; -1 if the row does not exist or is deleted."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        positions = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        is_present = self.ids[positions] == ids
        if self.live is not None:
            is_present &= self.live[positions]
        return np.where(is_present, positions, -1)

    def gather(self, positions: np.ndarray) -> np.ndarray:
        """The vectors `[n, dim]` float32 at `positions [n]`; only these rows are read."""
        ends = np.cumsum([len(part) for part in self.vectors])
        owner = np.searchsorted(ends, positions, side="right")
        found = np.empty((len(positions), self.vectors[0].shape[1] if self.vectors else 0), np.float32)
        for number in np.unique(owner):
            chosen = owner == number
            part = self.vectors[number]
            found[chosen] = part[positions[chosen] - (ends[number] - len(part))]
        return found

    def after(self, position: int) -> list[np.ndarray]:
        """The vectors from `position` to the end, by segment."""
        found, start = [], 0
        for part in self.vectors:
            if start + len(part) > position:
                found.append(part[max(0, position - start) :])
            start += len(part)
        return found


@dataclass(frozen=True)
class RowBatch:
    """Rows to write: vectors, ids, columns, and a mask `keep [rows]` of the rows to write.

    normalize: scale the vectors to length 1
    """

    vectors: np.ndarray
    ids: np.ndarray
    columns: pa.Table | None
    keep: np.ndarray
    normalize: bool = False

    def blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.vectors), BLOCK_ROWS):
            block = self.vectors[start : start + BLOCK_ROWS]
            chosen = block[self.keep[start : start + BLOCK_ROWS]]
            yield unit_vectors(chosen) if self.normalize else chosen


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """`vectors [rows, dim]`, which are not 0, scaled to length 1, as float32."""
    return normalize_rows(np.asarray(vectors, np.float64)).astype(np.float32)


def read_rows(folder: Path, manifest: IndexManifest) -> IndexRows:
    """Memory-map the rows of an index; no vector is read.

    Raises:
        ArtifactError: a file is corrupt.
    """
    vectors, ids, tables = [], [np.empty(0, np.int64)], []
    for segment in manifest.segments:
        array = _memory_map(folder / segment.vectors.name, (segment.num_rows, manifest.dim), manifest.dtype)
        vectors.append(array)
        ids.append(np.asarray(_memory_map(folder / segment.ids.name, (segment.num_rows,), "int64")))
        if segment.columns is not None:
            tables.append(_columns(folder / segment.columns.name, segment.num_rows))
    all_ids = np.concatenate(ids)
    live = None
    if manifest.deleted is not None:
        live = ~np.isin(all_ids, read_array(folder / manifest.deleted.name))
    with parsing(folder):
        return IndexRows(vectors, all_ids, pa.concat_tables(tables) if tables else None, live)


def write_segment(folder: Path, number: int, batches: list[RowBatch], manifest: IndexManifest) -> IndexSegment:
    """Write the kept rows of `batches`, whose ids ascend, as one segment; there must be at least one row."""
    name = f"segment-{number:06d}"
    num_rows = sum(int(batch.keep.sum()) for batch in batches)
    path = folder / f"{name}.vectors.npy"
    sink = np.lib.format.open_memmap(path, "w+", dtype=manifest.dtype, shape=(num_rows, manifest.dim))
    start = 0
    for batch in batches:
        for block in batch.blocks():
            sink[start : start + len(block)] = block
            start += len(block)
    sink.flush()
    del sink
    ids = np.concatenate([batch.ids[batch.keep] for batch in batches])
    np.save(folder / f"{name}.ids.npy", ids, allow_pickle=False)
    columns = None
    tables = [batch.columns.filter(pa.array(batch.keep)) for batch in batches if batch.columns is not None]
    if tables:
        table = pa.concat_tables(tables)
        with pa.OSFile(str(folder / f"{name}.columns.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
            out.write_table(table, max_chunksize=BLOCK_ROWS)
        columns = sync_file(folder / f"{name}.columns.arrow")
    return IndexSegment(
        num_rows=num_rows,
        first_id=int(ids[0]),
        last_id=int(ids[-1]),
        vectors=sync_file(path),
        ids=sync_file(folder / f"{name}.ids.npy"),
        columns=columns,
    )


def read_array(path: Path) -> np.ndarray:
    """Read a small array of the index.

    Raises:
        ArtifactError: the file cannot be read.
    """
    with parsing(path):
        return np.load(path, allow_pickle=False)


def _memory_map(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    with parsing(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ArtifactError(f"{path} contains {array.dtype} {array.shape}, not {dtype} {shape}; build the index again")
    return array


def _columns(path: Path, rows: int) -> pa.Table:
    with parsing(path):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    if len(table) != rows:
        raise ArtifactError(f"{path} has {len(table)} rows, not {rows}; build the index again")
    return table
