"""The files of an index: what is mapped from them, and how changes are written to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from polymodal.applications.search.filter import evaluate_filter
from polymodal.applications.search.hnsw_graph import HNSWGraph
from polymodal.applications.search.manifest import (
    IndexManifest,
    is_index,
    read_manifest,
    remove_orphans,
    sync_file,
    write_manifest,
    write_lock,
)
from polymodal.applications.search.rows import BLOCK, RowBatch, read_rows, write_segment
from polymodal.core.errors import ArtifactError, DataError

#: Rows that are searched exactly beside the graph before they are linked into it: small additions stay cheap.
MAX_UNLINKED_ROWS = 4_096
#: Segments below this many rows are written anew together with rows that are added, so that few files are left.
_MERGE_BELOW = 100_000


class Storage:
    """The folder of an index in one state: its manifest, its rows and its graph, which stay on the disk and are mapped.

    `write`, `delete` and `compact` make the next state, within `changing`; a new folder needs no lock.
    """

    def __init__(self, folder: Path, manifest: IndexManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.rows = read_rows(folder, manifest)
        self._mapped: HNSWGraph | None = None

    def write(self, part: RowBatch, *, link: bool = False) -> None:
        """Write `part` after the rows there are, and link the rows that the graph lacks if they are many."""
        manifest, added = self._next(), int(part.chosen.sum())
        absorbed = self._absorbed(added)
        parts = [*self._parts(absorbed), part]
        manifest.segments = manifest.segments[: len(manifest.segments) - absorbed]
        manifest.segments.append(write_segment(self.folder, manifest.generation, parts, manifest))
        manifest.next_id += len(part.ids)
        if manifest.graph is not None:
            beside = int((self.rows.ids > manifest.graph.last).sum()) + added
            if link or beside > MAX_UNLINKED_ROWS:
                self._link(manifest)
        self._commit(manifest)

    def delete(self, chosen: np.ndarray | None) -> int:
        """Note that rows are deleted, and say how many of them were there: `chosen` are places or `[rows]` bool, None
        all."""
        rows = self.rows
        gone = np.zeros(len(rows), bool) if rows.live is None else ~rows.live
        before = int(gone.sum())
        gone[chosen] = True
        manifest = self._next()
        if gone.sum() > before:
            path = self.folder / f"deleted-{manifest.generation:06d}.npy"
            np.save(path, rows.ids[gone], allow_pickle=False)
            manifest.deleted = sync_file(path)
            self._commit(manifest)
        return int(gone.sum()) - before

    def compact(self) -> None:
        """Write the rows that are not deleted as one segment, and the graph anew.

        Raises:
            DataError: no row is left.
        """
        if not self.rows.count:
            raise DataError(f"{self.folder} has no row left; delete the folder")
        manifest = self._next()
        parts = self._parts(len(manifest.segments))
        manifest.segments = [write_segment(self.folder, manifest.generation, parts, manifest)]
        manifest.deleted = None
        if manifest.graph is not None:
            manifest.graph = manifest.graph.model_copy(update={"file": None, "rows": 0, "last": -1})
            self._link(manifest)
        self._commit(manifest)

    def _link(self, manifest: IndexManifest) -> None:
        """Add the rows behind the graph's last to it, and write it to a new file that `manifest` names."""
        facts = manifest.graph
        assert facts is not None
        rows = read_rows(self.folder, manifest)
        graph = HNSWGraph.open(self.folder, self.manifest.size, facts, change=True)
        first = int(np.searchsorted(rows.ids, facts.last, side="right"))
        places = np.arange(first, len(rows))
        if rows.live is not None:
            places = places[rows.live[first:]]
        for start in range(0, len(places), BLOCK):
            block = places[start : start + BLOCK]
            graph.add(rows.ids[block], rows.gather(block))
        path = self.folder / f"graph-{manifest.generation:06d}.usearch"
        graph.save(path)
        last = int(rows.ids[-1])
        manifest.graph = facts.model_copy(update={"file": sync_file(path), "rows": len(graph), "last": last})

    def _absorbed(self, added: int) -> int:
        """How many of the last segments are written anew together with `added` rows: those no larger than what
        follows, so that a row is copied as often as the logarithm of the number of rows, and few segments are left."""
        count = 0
        for one in reversed(self.manifest.segments):
            if one.rows > min(added, _MERGE_BELOW):
                break
            count, added = count + 1, added + one.rows
        return count

    def _parts(self, count: int) -> list[RowBatch]:
        """The rows of the last `count` segments that are not deleted, ready to be written."""
        rows = self.rows
        last, found = rows.vectors[len(rows.vectors) - count :], []
        start = len(rows) - sum(len(vectors) for vectors in last)
        for vectors in last:
            end = start + len(vectors)
            live = np.ones(len(vectors), bool) if rows.live is None else rows.live[start:end]
            table = rows.columns.slice(start, len(vectors)) if rows.columns is not None else None
            found.append(RowBatch(vectors, rows.ids[start:end], table, live))
            start = end
        return found

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock of writers, on the newest state of the index."""
        with write_lock(self.folder):
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
        """The graph, mapped from the disk."""
        if self._mapped is None:
            assert self.manifest.graph is not None
            self._mapped = HNSWGraph.open(self.folder, self.manifest.size, self.manifest.graph, change=False)
        return self._mapped

    def allowed(self, where: str | None) -> np.ndarray | None:
        """Which rows are there and meet the condition `where`, `[rows]` bool; None: all of them.

        Raises:
            DataError: the condition cannot be read, or no columns are kept.
        """
        rows = self.rows
        if where is None:
            return rows.live
        if rows.columns is None:
            raise DataError("the index keeps no columns to filter by; name them when it is built")
        found = evaluate_filter(rows.columns, where)
        return found if rows.live is None else found & rows.live

    def places(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Where the rows `ids [n]` stand, `[n]`.

        Raises:
            DataError: there is no such row.
        """
        wanted = np.asarray(ids, np.int64).reshape(-1)
        places = self.rows.find(wanted)
        if (places < 0).any():
            raise DataError(f"the index has no row {int(wanted[places < 0][0])}")
        return places


def check_destination(folder: Path, overwrite: bool) -> None:
    """Raises ArtifactError if `folder` must not be written to."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_index(folder):
        raise ArtifactError(f"{folder} is there and holds no index; choose another folder")
    if not overwrite:
        raise ArtifactError(f"{folder} holds an index; add to it, or replace it by overwrite=True (--overwrite)")
