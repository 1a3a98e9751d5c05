"""The files of an index: memory-mapped reads, and atomic changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from polymodal.applications.search.filter import evaluate_filter
from polymodal.applications.search.hnsw_graph import HNSWGraph
from polymodal.applications.search.manifest import (
    IndexManifest,
    read_manifest,
    remove_orphans,
    sync_file,
    write_manifest,
)
from polymodal.applications.search.rows import BLOCK_ROWS, RowBatch, read_rows, write_segment
from polymodal.checkpoint.directory_kinds import INDEX
from polymodal.checkpoint.output_directory import OutputDirectory
from polymodal.core.errors import DataError
from polymodal.core.writing import write_errors

#: Up to this many new rows are searched exactly in addition to the graph before they are added to it, so that small
#: additions stay cheap.
MAX_UNLINKED_ROWS = 4_096
#: Segments below this many rows are merged with new rows, so that the number of files stays small.
_MERGE_BELOW = 100_000


class Storage:
    """The folder of an index in one state: its manifest, and its memory-mapped rows and graph.

    `write`, `delete` and `compact` create the next state. They must run within `transaction`, except in a new folder.
    """

    def __init__(self, folder: Path, manifest: IndexManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.rows = read_rows(folder, manifest)
        self._mapped: HNSWGraph | None = None

    def write(self, batch: RowBatch, *, link: bool = False) -> None:
        """Append `batch`, and add the rows that are missing in the graph to it if there are many, or if `link` is
        set."""
        manifest, added = self._next(), int(batch.keep.sum())
        num_absorbed = self._num_absorbed(added)
        batches = [*self._live_rows(num_absorbed), batch]
        manifest.segments = manifest.segments[: len(manifest.segments) - num_absorbed]
        manifest.segments.append(write_segment(self.folder, manifest.generation, batches, manifest))
        manifest.next_id += len(batch.ids)
        if manifest.graph is not None:
            num_unlinked = int((self.rows.ids > manifest.graph.last_id).sum()) + added
            if link or num_unlinked > MAX_UNLINKED_ROWS:
                self._link(manifest)
        self._commit(manifest)

    def delete(self, selected: np.ndarray | None) -> int:
        """Mark rows as deleted and return their number.

        selected: positions, `[rows]` bool, or None for all rows
        """
        rows = self.rows
        deleted = np.zeros(len(rows), bool) if rows.live is None else ~rows.live
        num_before = int(deleted.sum())
        deleted[selected] = True
        manifest = self._next()
        if deleted.sum() > num_before:
            path = self.folder / f"deleted-{manifest.generation:06d}.npy"
            np.save(path, rows.ids[deleted], allow_pickle=False)
            manifest.deleted = sync_file(path)
            self._commit(manifest)
        return int(deleted.sum()) - num_before

    def compact(self) -> None:
        """Write the rows that are not deleted as one segment, and rebuild the graph.

        Raises:
            DataError: no row is left.
        """
        if not self.rows.num_live:
            raise DataError(f"{self.folder} has no rows left; delete the folder")
        manifest = self._next()
        batches = self._live_rows(len(manifest.segments))
        manifest.segments = [write_segment(self.folder, manifest.generation, batches, manifest)]
        manifest.deleted = None
        if manifest.graph is not None:
            manifest.graph = manifest.graph.model_copy(update={"file": None, "num_rows": 0, "last_id": -1})
            self._link(manifest)
        self._commit(manifest)

    def _link(self, manifest: IndexManifest) -> None:
        """Add the rows after `last_id` to the graph, write it to a new file, and update `manifest`."""
        state = manifest.graph
        assert state is not None
        rows = read_rows(self.folder, manifest)
        graph = HNSWGraph.open(self.folder, self.manifest.dim, state, change=True)
        first = int(np.searchsorted(rows.ids, state.last_id, side="right"))
        positions = np.arange(first, len(rows))
        if rows.live is not None:
            positions = positions[rows.live[first:]]
        for start in range(0, len(positions), BLOCK_ROWS):
            block = positions[start : start + BLOCK_ROWS]
            graph.add(rows.ids[block], rows.gather(block))
        path = self.folder / f"graph-{manifest.generation:06d}.usearch"
        graph.save(path)
        last_id = int(rows.ids[-1])
        manifest.graph = state.model_copy(update={"file": sync_file(path), "num_rows": len(graph), "last_id": last_id})

    def _num_absorbed(self, added: int) -> int:
        """The number of trailing segments to merge with `added` rows: those that are not larger than all rows after
        them. Thus each row is copied O(log rows) times, and few segments remain."""
        count = 0
        for segment in reversed(self.manifest.segments):
            if segment.num_rows > min(added, _MERGE_BELOW):
                break
            count, added = count + 1, added + segment.num_rows
        return count

    def _live_rows(self, count: int) -> list[RowBatch]:
        """The rows of the last `count` segments that are not deleted, to be written again."""
        rows = self.rows
        last, result = rows.vectors[len(rows.vectors) - count :], []
        start = len(rows) - sum(len(vectors) for vectors in last)
        for vectors in last:
            end = start + len(vectors)
            live = np.ones(len(vectors), bool) if rows.live is None else rows.live[start:end]
            table = rows.columns.slice(start, len(vectors)) if rows.columns is not None else None
            result.append(RowBatch(vectors, rows.ids[start:end], table, live))
            start = end
        return result

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the write lock, and switch to the newest state of the index.

        Raises:
            OutputError: another process is changing the index, or the disk is full.
        """
        with OutputDirectory(self.folder, INDEX, resume=True).writing(), write_errors(self.folder):
            newest = read_manifest(self.folder)
            remove_orphans(self.folder, newest)
            if newest.generation != self.manifest.generation:
                self._load(newest)
            yield

    def _next(self) -> IndexManifest:
        return self.manifest.model_copy(update={"generation": self.manifest.generation + 1}, deep=True)

    def _commit(self, manifest: IndexManifest) -> None:
        write_manifest(self.folder, manifest)
        self._load(manifest)

    def _load(self, manifest: IndexManifest) -> None:
        self.manifest, self.rows, self._mapped = manifest, read_rows(self.folder, manifest), None

    def graph(self) -> HNSWGraph:
        """The memory-mapped graph."""
        if self._mapped is None:
            assert self.manifest.graph is not None
            self._mapped = HNSWGraph.open(self.folder, self.manifest.dim, self.manifest.graph, change=False)
        return self._mapped

    def filter_mask(self, condition: str | None) -> np.ndarray | None:
        """`[rows]` bool, True for rows that are not deleted and meet `condition`; None: all rows.

        Raises:
            DataError: the condition is invalid, or the index has no metadata columns.
        """
        rows = self.rows
        if condition is None:
            return rows.live
        if rows.columns is None:
            raise DataError("the index has no metadata columns to filter by; select them when it is built")
        result = evaluate_filter(rows.columns, condition)
        return result if rows.live is None else result & rows.live

    def positions(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The positions `[n]` of the rows `ids [n]`.

        Raises:
            DataError: a row does not exist, or an id is not a whole number.
        """
        given = np.asarray(ids).reshape(-1)
        if len(given) and given.dtype.kind not in "iu":
            raise DataError(f"row ids must be whole numbers, not {given.dtype}")
        if len(given) and given.dtype.kind == "u" and int(given.max()) > np.iinfo(np.int64).max:
            raise DataError(f"the index has no row {int(given.max())}")
        requested = given.astype(np.int64)
        positions = self.rows.positions_of(requested)
        if (positions < 0).any():
            raise DataError(f"the index has no row {int(requested[positions < 0][0])}")
        return positions
