"""An index: vectors on the disk, searched by their cosine, with columns to show and to filter by."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from polymodal.applications.search.added import fitted, kept_columns, matrix, present_rows
from polymodal.applications.search.approximate import approximate_search
from polymodal.applications.search.exact import Hits, exact_search, without_own
from polymodal.applications.search.graph import Graph
from polymodal.applications.search.manifest import (
    GraphFacts,
    Manifest,
    Source,
    is_index,
    read_manifest,
    remove_strangers,
    stored,
    write_manifest,
    writing,
)
from polymodal.applications.search.rows import BLOCK, Part, read_rows, unit, write_segment
from polymodal.applications.search.where import matching
from polymodal.core.errors import ArtefactError, DataError

#: From this many rows on, an index is approximate unless it is said.
APPROXIMATE_ROWS = 100_000
#: Rows that are searched exactly beside the graph before they are linked into it: small additions stay cheap.
TAIL = 4_096
#: Segments below this many rows are written anew together with rows that are added, so that few files are left.
_SMALL = 100_000


class Index:
    """An index in a folder. `Index.build` makes one, `Index.open` opens one.

    Every change (`add`, `delete`, `compact`) is on the disk when it returns, and is there whole or not at all. Rows
    are named by ids, which count from 0 in the order of adding and are never used again. An open index goes on
    showing what it opened; `open` it again to see what another process has changed.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._rows = read_rows(folder, manifest)
        self._graph: Graph | None = None

    @classmethod
    def build(
        cls,
        folder: Path | str,
        vectors: Any,
        columns: Any = None,
        *,
        method: Literal["auto", "exact", "approximate"] = "auto",
        dtype: Literal["float32", "float16"] = "float32",
        connectivity: int = 16,
        expansion_add: int = 128,
        expansion_search: int = 128,
        source: Source | None = None,
        overwrite: bool = False,
    ) -> Index:
        """Write an index of `vectors [rows, size]` to `folder` and open it.

        vectors: of any length but 0; kept at length 1. Row i gets the id i; a row of nothing but NaN is left out
        columns: what to keep of each row, as anything that `open_table` reads
        method: `exact` compares a query with every row; `approximate` walks a graph (needs usearch) and misses a few
            of the nearest; `auto` is exact below 100,000 rows
        dtype: how vectors are kept; float16 halves the files, and similarities are right to three digits
        connectivity: links of a row in the graph; more find more, and take more memory
        expansion_add, expansion_search: how many rows a walk through the graph keeps in view, when rows are added and
            when they are sought; more find more and take longer
        source: the model that made the vectors
        overwrite: replace an index that stands there

        Raises:
            ArtefactError: `folder` holds something, and (unless `overwrite`) an index.
            DataError: a vector is not finite or 0, or the columns do not fit.
            MissingExtraError: an approximate index is wanted, and usearch is not installed.
        """
        folder, vectors = Path(folder), matrix(vectors, None, "vectors")
        if method == "auto":
            method = "approximate" if len(vectors) >= APPROXIMATE_ROWS else "exact"
        facts = None
        if method == "approximate":
            facts = GraphFacts(
                connectivity=connectivity, expansion_add=expansion_add, expansion_search=expansion_search
            )
            Graph.empty(vectors.shape[1], facts)
        manifest = Manifest(size=vectors.shape[1], dtype=dtype, graph=facts, source=source)
        kept = kept_columns(columns, len(vectors))
        present = present_rows(vectors)
        if not present.any():
            raise DataError("there is no vector to index: every row is missing")
        _check_place(folder, overwrite)
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            new = cls(part, manifest)
            new._write(Part(vectors, np.arange(len(vectors)), kept, present, raw=True), link=True)
            if folder.exists():
                shutil.rmtree(folder)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path | str) -> Index:
        """Open an index; vectors stay on the disk and are mapped.

        Raises:
            ArtefactError: there is no index, it has another format, or a file is missing or was altered.
        """
        folder = Path(folder)
        return cls(folder, read_manifest(folder))

    def __len__(self) -> int:
        return self._rows.count

    @property
    def size(self) -> int:
        """The length of a vector."""
        return self.manifest.size

    @property
    def approximate(self) -> bool:
        """Whether there is a graph."""
        return self.manifest.graph is not None

    @property
    def columns(self) -> list[str]:
        """The names of the kept columns."""
        return self._rows.columns.column_names if self._rows.columns is not None else []

    @property
    def ids(self) -> np.ndarray:
        """The ids of all rows `[rows]` int64, ascending."""
        rows = self._rows
        return rows.ids.copy() if rows.live is None else rows.ids[rows.live]

    def vectors(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The unit vectors `[n, size]` float32 of the rows `ids [n]`. Raises as `take` does."""
        return self._rows.gather(self._places(ids))

    def take(self, ids: Sequence[int] | np.ndarray) -> pa.Table:
        """The kept columns of the rows `ids [n]`, in that order.

        Raises:
            DataError: there is no such row.
        """
        places = self._places(ids)
        table = self._rows.columns
        return table.take(pa.array(places)) if table is not None else pa.table({})

    def search(
        self,
        queries: Any,
        count: int = 10,
        *,
        where: str | None = None,
        exact: bool = False,
        expansion: int | None = None,
    ) -> Hits:
        """The `count` rows most similar to each of `queries [queries, size]` (or one query `[size]`).

        where: a condition on kept columns that rows must meet, as `price < 10 and colour == 'red'` (see `where`)
        exact: compare with every row, though the index is approximate
        expansion: rows that a walk through the graph keeps in view, if more than the index was built with

        Fewer than `count` are found only where there are fewer.

        Raises:
            DataError: a query is not finite, is 0 or has another size; the condition cannot be read.
        """
        if count < 1:
            raise DataError(f"at least 1 row is sought for a query, not {count}")
        given = matrix(queries, self.size, "queries")
        if not present_rows(given).all():
            raise DataError("the query is missing", row=int(present_rows(given).argmin()))
        wanted, allowed = unit(given), self._allowed(where)
        if self.manifest.graph is None or exact:
            places, similarity = exact_search(wanted, self._rows.vectors, count, allowed)
        else:
            places, similarity = approximate_search(wanted, self._rows, self._mapped_graph(), count, allowed, expansion)
        ids = np.full_like(places, -1)
        ids[places >= 0] = self._rows.ids[places[places >= 0]]
        return Hits(ids, similarity)

    def recall(self, queries: Any = None, *, sample: int = 200, count: int = 10, seed: int = 0) -> float:
        """The share of the `count` nearest rows that `search` finds, against exact search: recall@count.

        queries: `[queries, size]`; by default `sample` of the index's own rows, drawn by `seed`, for each of which
            its nearest *other* rows are sought

        A found row counts if it is at least as similar as the last of the exact ones, so ties count whichever of them
        is found.
        """
        if queries is None:
            ids = self.ids
            own = np.random.default_rng(seed).permutation(len(ids))[:sample]
            own = ids[np.sort(own)]
            near, far = (self.search(self.vectors(own), count + 1, exact=exact) for exact in (False, True))
            found, best = without_own(near, own, count), without_own(far, own, count)
        else:
            found, best = (self.search(queries, count, exact=exact).similarity for exact in (False, True))
        there = np.isfinite(best).sum(1)
        if not there.any():
            raise DataError("there is no row to be found")
        last = np.where(there > 0, best[np.arange(len(best)), np.maximum(there - 1, 0)], np.inf)
        hit = np.minimum((found >= last[:, None]).sum(1), there)
        return float(hit.sum() / there.sum())

    def add(self, vectors: Any, columns: Any = None) -> np.ndarray:
        """Add rows; their ids `[rows]` int64, -1 for rows that are missing (nothing but NaN).

        vectors, columns: as in `build`, with the columns that the index keeps

        What is there is not built again: up to 4,096 new rows lie beside the graph and are searched exactly, more of
        them are linked into it.

        Raises:
            ArtefactError: another process is changing the index.
            DataError: a vector is not finite, is 0 or has another size; the columns do not fit.
        """
        array = matrix(vectors, self.size, "vectors")
        present = present_rows(array)
        kept = kept_columns(columns, len(array))
        with self._changing():
            known = self._rows.columns
            kept = fitted(kept, known.schema if known is not None else None)
            ids = self.manifest.next_id + np.arange(len(array))
            if present.any():
                self._write(Part(array, ids, kept, present, raw=True))
        return np.where(present, ids, -1)

    def delete(self, ids: Sequence[int] | np.ndarray | None = None, *, where: str | None = None) -> int:
        """Delete the rows with these `ids`, or all that meet the condition `where`; how many there were.

        They are never found again. Their vectors stay in the files until `compact`.

        Raises:
            ArtefactError: another process is changing the index.
            DataError: there is no such row; neither ids nor a condition is given; the condition cannot be read.
        """
        if (ids is None) == (where is None):
            raise DataError("rows are deleted by their ids or by a condition; give one of them")
        with self._changing():
            rows = self._rows
            chosen = self._allowed(where) if ids is None else self._places(ids)
            gone = np.zeros(len(rows), bool) if rows.live is None else ~rows.live
            before = int(gone.sum())
            gone[chosen] = True
            manifest = self._next()
            if gone.sum() > before:
                path = self.folder / f"deleted-{manifest.generation:06d}.npy"
                np.save(path, rows.ids[gone], allow_pickle=False)
                manifest.deleted = stored(path)
                self._commit(manifest)
        return int(gone.sum()) - before

    def compact(self) -> None:
        """Write the rows that are not deleted as one segment, and the graph anew: what was deleted leaves the disk.

        Raises:
            ArtefactError: another process is changing the index.
            DataError: no row is left.
        """
        with self._changing():
            rows = self._rows
            if not rows.count:
                raise DataError(f"{self.folder} has no row left; delete the folder")
            manifest = self._next()
            parts = self._parts(len(manifest.segments))
            segment = write_segment(self.folder, manifest.generation, parts, manifest)
            manifest.segments, manifest.deleted = [segment], None
            if manifest.graph is not None:
                manifest.graph = manifest.graph.model_copy(update={"file": None, "rows": 0, "last": -1})
                self._link(manifest)
            self._commit(manifest)

    def _write(self, part: Part, *, link: bool = False) -> None:
        """Write `part` after the rows there are, and link the rows that the graph lacks if they are many."""
        manifest, added = self._next(), int(part.chosen.sum())
        absorbed = self._absorbed(added)
        parts = [*self._parts(absorbed), part]
        manifest.segments = manifest.segments[: len(manifest.segments) - absorbed]
        manifest.segments.append(write_segment(self.folder, manifest.generation, parts, manifest))
        manifest.next_id += len(part.ids)
        if manifest.graph is not None:
            beside = int((self._rows.ids > manifest.graph.last).sum()) + added
            if link or beside > TAIL:
                self._link(manifest)
        self._commit(manifest)

    def _link(self, manifest: Manifest) -> None:
        """Add the rows behind the graph's last to it, and write it to a new file that `manifest` names."""
        facts = manifest.graph
        assert facts is not None
        rows = read_rows(self.folder, manifest)
        graph = Graph.open(self.folder, self.size, facts, change=True)
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
        manifest.graph = facts.model_copy(update={"file": stored(path), "rows": len(graph), "last": last})

    def _absorbed(self, added: int) -> int:
        """How many of the last segments are written anew together with `added` rows: those no larger than what
        follows, so that a row is copied as often as the logarithm of the number of rows, and few segments are left."""
        count = 0
        for one in reversed(self.manifest.segments):
            if one.rows > min(added, _SMALL):
                break
            count, added = count + 1, added + one.rows
        return count

    def _parts(self, count: int) -> list[Part]:
        """The rows of the last `count` segments that are not deleted, ready to be written."""
        rows = self._rows
        last, found = rows.vectors[len(rows.vectors) - count :], []
        start = len(rows) - sum(len(vectors) for vectors in last)
        for vectors in last:
            end = start + len(vectors)
            live = np.ones(len(vectors), bool) if rows.live is None else rows.live[start:end]
            table = rows.columns.slice(start, len(vectors)) if rows.columns is not None else None
            found.append(Part(vectors, rows.ids[start:end], table, live))
            start = end
        return found

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock of writers, on the newest state of the index."""
        with writing(self.folder):
            newest = read_manifest(self.folder)
            remove_strangers(self.folder, newest)
            if newest.generation != self.manifest.generation:
                self._load(newest)
            yield

    def _next(self) -> Manifest:
        return self.manifest.model_copy(update={"generation": self.manifest.generation + 1}, deep=True)

    def _commit(self, manifest: Manifest) -> None:
        write_manifest(self.folder, manifest)
        self._load(manifest)

    def _load(self, manifest: Manifest) -> None:
        self.manifest, self._rows, self._graph = manifest, read_rows(self.folder, manifest), None

    def _mapped_graph(self) -> Graph:
        if self._graph is None:
            assert self.manifest.graph is not None
            self._graph = Graph.open(self.folder, self.size, self.manifest.graph, change=False)
        return self._graph

    def _allowed(self, where: str | None) -> np.ndarray | None:
        rows = self._rows
        if where is None:
            return rows.live
        if rows.columns is None:
            raise DataError("the index keeps no columns to filter by; name them when it is built")
        found = matching(rows.columns, where)
        return found if rows.live is None else found & rows.live

    def _places(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        wanted = np.asarray(ids, np.int64).reshape(-1)
        places = self._rows.find(wanted)
        if (places < 0).any():
            raise DataError(f"the index has no row {int(wanted[places < 0][0])}")
        return places


def _check_place(folder: Path, overwrite: bool) -> None:
    """Raises ArtefactError if `folder` must not be written to."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_index(folder):
        raise ArtefactError(f"{folder} is there and holds no index; choose another folder")
    if not overwrite:
        raise ArtefactError(f"{folder} holds an index; add to it, or replace it by overwrite=True (--overwrite)")
