"""An index: vectors on the disk, searched by their cosine, with columns to show and to filter by."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from polymodal.applications.search.ann import approximate_search
from polymodal.applications.search.exact import SearchResults, exact_search, exclude_self
from polymodal.applications.search.hnsw_graph import HNSWGraph
from polymodal.applications.search.ingest import match_schema, read_metadata, as_matrix, present_rows
from polymodal.applications.search.manifest import HNSWState, HNSWOptions, IndexManifest, EmbeddingSource, read_manifest
from polymodal.applications.search.rows import RowBatch, unit_vectors
from polymodal.applications.search.storage import Storage, check_destination
from polymodal.core.errors import DataError

#: From this many rows on, an index is approximate unless it is said.
MIN_APPROXIMATE_ROWS = 100_000


class Index:
    """An index in a folder. `Index.build` makes one, `Index.open` opens one.

    Every change (`add`, `delete`, `compact`) is on the disk when it returns, and is there whole or not at all. Rows
    are named by ids, which count from 0 in the order of adding and are never used again. An open index goes on
    showing what it opened; `open` it again to see what another process has changed.
    """

    def __init__(self, folder: Path, manifest: IndexManifest) -> None:
        self._storage = Storage(folder, manifest)

    @classmethod
    def build(
        cls,
        folder: Path | str,
        vectors: Any,
        columns: Any = None,
        *,
        method: Literal["auto", "exact", "approximate"] = "auto",
        dtype: Literal["float32", "float16"] = "float32",
        graph: HNSWOptions | None = None,
        source: EmbeddingSource | None = None,
        overwrite: bool = False,
    ) -> Index:
        """Write an index of `vectors [rows, size]` to `folder` and open it.

        vectors: of any length but 0; kept at length 1. Row i gets the id i; a row of nothing but NaN is left out
        columns: what to keep of each row, as anything that `open_table` reads
        method: `exact` compares a query with every row; `approximate` walks a graph (needs usearch) and misses a few
            of the nearest; `auto` is exact below 100,000 rows
        dtype: how vectors are kept; float16 halves the files, and similarities are right to three digits
        graph: how the graph of an approximate index is built and walked
        source: the model that made the vectors
        overwrite: replace an index that stands there

        Raises:
            ArtifactError: `folder` holds something, and (unless `overwrite`) an index.
            DataError: a vector is not finite or 0, or the columns do not fit.
            MissingExtraError: an approximate index is wanted, and usearch is not installed.
        """
        folder, vectors = Path(folder), as_matrix(vectors, None, "vectors")
        if method == "auto":
            method = "approximate" if len(vectors) >= MIN_APPROXIMATE_ROWS else "exact"
        facts = None
        if method == "approximate":
            facts = HNSWState(**(graph or HNSWOptions()).model_dump())
            HNSWGraph.empty(vectors.shape[1], facts)
        manifest = IndexManifest(size=vectors.shape[1], dtype=dtype, graph=facts, source=source)
        kept = read_metadata(columns, len(vectors))
        present = present_rows(vectors)
        if not present.any():
            raise DataError("there is no vector to index: every row is missing")
        check_destination(folder, overwrite)
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            Storage(part, manifest).write(RowBatch(vectors, np.arange(len(vectors)), kept, present, raw=True), link=True)
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
            ArtifactError: there is no index, it has another format, or a file is missing or was altered.
        """
        folder = Path(folder)
        return cls(folder, read_manifest(folder))

    def __len__(self) -> int:
        return self._storage.rows.count

    @property
    def folder(self) -> Path:
        """Where the index stands."""
        return self._storage.folder

    @property
    def manifest(self) -> IndexManifest:
        """What the index says of itself: its files, how it was built, and the model that made the vectors."""
        return self._storage.manifest

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
        kept = self._storage.rows.columns
        return kept.column_names if kept is not None else []

    @property
    def ids(self) -> np.ndarray:
        """The ids of all rows `[rows]` int64, ascending."""
        rows = self._storage.rows
        return rows.ids.copy() if rows.live is None else rows.ids[rows.live]

    def vectors(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The unit vectors `[n, size]` float32 of the rows `ids [n]`. Raises as `take` does."""
        return self._storage.rows.gather(self._storage.places(ids))

    def take(self, ids: Sequence[int] | np.ndarray) -> pa.Table:
        """The kept columns of the rows `ids [n]`, in that order.

        Raises:
            DataError: there is no such row.
        """
        places = self._storage.places(ids)
        table = self._storage.rows.columns
        return table.take(pa.array(places)) if table is not None else pa.table({})

    def search(
        self,
        queries: Any,
        count: int = 10,
        *,
        where: str | None = None,
        exact: bool = False,
        expansion: int | None = None,
    ) -> SearchResults:
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
        given = as_matrix(queries, self.size, "queries")
        if not present_rows(given).all():
            raise DataError("the query is missing", row=int(present_rows(given).argmin()))
        rows, wanted, allowed = self._storage.rows, unit_vectors(given), self._storage.allowed(where)
        if self.manifest.graph is None or exact:
            places, similarity = exact_search(wanted, rows.vectors, count, allowed)
        else:
            places, similarity = approximate_search(wanted, rows, self._storage.graph(), count, allowed, expansion)
        ids = np.full_like(places, -1)
        ids[places >= 0] = rows.ids[places[places >= 0]]
        return SearchResults(ids, similarity)

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
            found, best = exclude_self(near, own, count), exclude_self(far, own, count)
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
            ArtifactError: another process is changing the index.
            DataError: a vector is not finite, is 0 or has another size; the columns do not fit.
        """
        array = as_matrix(vectors, self.size, "vectors")
        present = present_rows(array)
        kept = read_metadata(columns, len(array))
        storage = self._storage
        with storage.changing():
            known = storage.rows.columns
            kept = match_schema(kept, known.schema if known is not None else None)
            ids = self.manifest.next_id + np.arange(len(array))
            if present.any():
                storage.write(RowBatch(array, ids, kept, present, raw=True))
        return np.where(present, ids, -1)

    def delete(self, ids: Sequence[int] | np.ndarray | None = None, *, where: str | None = None) -> int:
        """Delete the rows with these `ids`, or all that meet the condition `where`; how many there were.

        They are never found again. Their vectors stay in the files until `compact`.

        Raises:
            ArtifactError: another process is changing the index.
            DataError: there is no such row; neither ids nor a condition is given; the condition cannot be read.
        """
        if (ids is None) == (where is None):
            raise DataError("rows are deleted by their ids or by a condition; give one of them")
        storage = self._storage
        with storage.changing():
            return storage.delete(storage.allowed(where) if ids is None else storage.places(ids))

    def compact(self) -> None:
        """Write the rows that are not deleted as one segment, and the graph anew: what was deleted leaves the disk.

        Raises:
            ArtifactError: another process is changing the index.
            DataError: no row is left.
        """
        with self._storage.changing():
            self._storage.compact()
