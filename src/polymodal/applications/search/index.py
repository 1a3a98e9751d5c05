"""A vector index on disk, searched by cosine similarity, with metadata columns for display and filters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from polymodal.applications.search.ann import approximate_search
from polymodal.applications.search.exact import SearchResults, exact_search, exclude_self
from polymodal.applications.search.hnsw_graph import HNSWGraph
from polymodal.applications.search.ingest import as_matrix, match_schema, present_rows, read_metadata
from polymodal.applications.search.manifest import EmbeddingSource, HNSWOptions, HNSWState, IndexManifest, read_manifest
from polymodal.applications.search.rows import RowBatch, unit_vectors
from polymodal.applications.search.storage import Storage
from polymodal.checkpoint.directory_kinds import INDEX
from polymodal.checkpoint.output_directory import OutputDirectory
from polymodal.core.argument_types import check_arguments
from polymodal.core.errors import DataError
from polymodal.core.writing import write_errors

#: Default: an index with at least this many rows is approximate.
MIN_APPROXIMATE_ROWS = 100_000


class Index:
    """A vector index in a folder. Create it with `Index.build` or `Index.open`.

    Changes (`add`, `delete`, `compact`) are atomic, and are on disk when the method returns. Row ids count from 0 in
    the order of insertion and are never reused. An open index keeps its state; `open` it again to see the changes of
    other processes.

    Example:
        >>> import numpy as np, tempfile
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     index = Index.build(folder, vectors, {"color": ["red", "green", "red"]})
        ...     results = index.search([1.0, 0.2], top_k=2, filter="color == 'red'")
        >>> results.ids.tolist()
        [[0, 2]]
    """

    @check_arguments
    def __init__(self, folder: Path | str, manifest: IndexManifest) -> None:
        self._storage = Storage(Path(folder), manifest)

    @classmethod
    @check_arguments
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
        """Write an index of `vectors [rows, dim]` to `folder` and open it.

        vectors: stored with length 1. Row i gets the id i; rows that are all NaN are missing and skipped
        columns: metadata of each row, in any form that `open_table` reads
        method: `exact` compares a query with every row; `approximate` searches an HNSW graph (needs usearch) and may
            miss a few neighbors; `auto` is exact below 100,000 rows
        dtype: number format of the vectors; float16 halves the file size, with similarities accurate to three digits
        graph: options of the HNSW graph of an approximate index
        source: the model that computed the vectors
        overwrite: replace an existing index; it is unchanged until the new one is complete

        Raises:
            OutputError: `folder` is not empty and contains no index, or contains an index and `overwrite` is not set;
                another process writes it; or the disk is full.
            DataError: a vector is not finite or 0, or the columns do not match the vectors.
            MissingExtraError: the index is approximate, and usearch is not installed.
        """
        folder, vectors = Path(folder), as_matrix(vectors, None, "vectors")
        if method == "auto":
            method = "approximate" if len(vectors) >= MIN_APPROXIMATE_ROWS else "exact"
        state = None
        if method == "approximate":
            state = HNSWState(**(graph or HNSWOptions()).model_dump())
            HNSWGraph.empty(vectors.shape[1], state)
        manifest = IndexManifest(dim=vectors.shape[1], dtype=dtype, graph=state, source=source)
        metadata = read_metadata(columns, len(vectors))
        present = present_rows(vectors)
        if not present.any():
            raise DataError("there are no vectors to index: all rows are missing")
        with OutputDirectory(folder, INDEX, overwrite).writing() as work, write_errors(folder):
            Storage(work, manifest).write(
                RowBatch(vectors, np.arange(len(vectors)), metadata, present, normalize=True), link=True
            )
        return cls.open(folder)

    @classmethod
    @check_arguments
    def open(cls, folder: Path | str) -> Index:
        """Open an index; its vectors are memory-mapped.

        Raises:
            ArtifactError: there is no index, it has another format, or a file is missing or was modified.
        """
        folder = Path(folder)
        return cls(folder, read_manifest(folder))

    def __len__(self) -> int:
        return self._storage.rows.num_live

    @property
    def folder(self) -> Path:
        """The folder of the index."""
        return self._storage.folder

    @property
    def manifest(self) -> IndexManifest:
        """The manifest: files, build options, and the model that computed the vectors."""
        return self._storage.manifest

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self.manifest.dim

    @property
    def is_approximate(self) -> bool:
        """Whether the index has an HNSW graph."""
        return self.manifest.graph is not None

    @property
    def columns(self) -> list[str]:
        """The names of the metadata columns."""
        metadata = self._storage.rows.columns
        return metadata.column_names if metadata is not None else []

    @property
    def ids(self) -> np.ndarray:
        """The ids `[rows]` int64 of all rows, ascending."""
        rows = self._storage.rows
        return rows.ids.copy() if rows.live is None else rows.ids[rows.live]

    @check_arguments
    def vectors(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The unit vectors `[n, dim]` float32 of the rows `ids [n]`. Raises the same errors as `take`."""
        return self._storage.rows.gather(self._storage.positions(ids))

    @check_arguments
    def take(self, ids: Sequence[int] | np.ndarray) -> pa.Table:
        """The metadata columns of the rows `ids [n]`, in that order.

        Raises:
            DataError: a row does not exist.
        """
        positions = self._storage.positions(ids)
        table = self._storage.rows.columns
        return table.take(pa.array(positions)) if table is not None else pa.table({})

    @check_arguments
    def search(
        self,
        queries: Any,
        top_k: int = 10,
        *,
        filter: str | None = None,
        exact: bool = False,
        ef_search: int | None = None,
    ) -> SearchResults:
        """The `top_k` most similar rows for each of `queries [queries, dim]` (or for one query `[dim]`), or all rows if
        the index has fewer.

        filter: condition on metadata columns, such as `price < 10 and color == 'red'` (see `search.filter`)
        exact: compare with every row, also in an approximate index
        ef_search: number of candidates of the graph search, if larger than the value the index was built with

        The results have fewer than `top_k` columns only if the index has fewer rows. Places are empty (-1) only if
        fewer rows meet the condition.

        Raises:
            DataError: `top_k` is less than 1; a query is not finite, is 0 or has another dimension; the condition is
                invalid.
        """
        if top_k < 1:
            raise DataError(f"top_k must be at least 1, not {top_k}")
        top_k = min(top_k, max(1, len(self)))
        matrix = as_matrix(queries, self.dim, "queries")
        if not present_rows(matrix).all():
            raise DataError("the query is all NaN", row=int(present_rows(matrix).argmin()))
        rows, unit_queries, allowed = self._storage.rows, unit_vectors(matrix), self._storage.filter_mask(filter)
        if self.manifest.graph is None or exact:
            positions, similarity = exact_search(unit_queries, rows.vectors, top_k, allowed)
        else:
            positions, similarity = approximate_search(
                unit_queries, rows, self._storage.graph(), top_k, allowed, ef_search
            )
        ids = np.full_like(positions, -1)
        ids[positions >= 0] = rows.ids[positions[positions >= 0]]
        return SearchResults(ids, similarity)

    @check_arguments
    def recall(self, queries: Any = None, *, num_queries: int = 200, top_k: int = 10, seed: int = 0) -> float:
        """recall@top_k of `search` compared with exact search.

        queries: `[queries, dim]`; default: `num_queries` random rows of the index (drawn with `seed`), each compared
            with all other rows

        A result counts as correct if it is at least as similar as the last exact result, so that ties count.
        """
        if queries is None:
            ids = self.ids
            sample = np.random.default_rng(seed).permutation(len(ids))[:num_queries]
            sample = ids[np.sort(sample)]
            approximate, exact = (self.search(self.vectors(sample), top_k + 1, exact=exact) for exact in (False, True))
            found, best = exclude_self(approximate, sample, top_k), exclude_self(exact, sample, top_k)
        else:
            found, best = (self.search(queries, top_k, exact=exact).similarity for exact in (False, True))
        num_exact = np.isfinite(best).sum(1)
        if not num_exact.any():
            raise DataError("the index has no other rows to search")
        last = np.where(num_exact > 0, best[np.arange(len(best)), np.maximum(num_exact - 1, 0)], np.inf)
        num_correct = np.minimum((found >= last[:, None]).sum(1), num_exact)
        return float(num_correct.sum() / num_exact.sum())

    @check_arguments
    def add(self, vectors: Any, columns: Any = None) -> np.ndarray:
        """Add rows and return their ids `[rows]` int64; -1 for missing rows (all NaN).

        vectors, columns: as in `build`, with the metadata columns of the index

        Existing files are not rebuilt. Up to 4,096 new rows are searched exactly in addition to the graph; more rows
        are added to the graph.

        Raises:
            OutputError: another process is changing the index, or the disk is full.
            DataError: a vector is not finite, is 0 or has another dimension; the columns do not match.
        """
        array = as_matrix(vectors, self.dim, "vectors")
        present = present_rows(array)
        metadata = read_metadata(columns, len(array))
        storage = self._storage
        with storage.transaction():
            existing = storage.rows.columns
            metadata = match_schema(metadata, existing.schema if existing is not None else None)
            ids = self.manifest.next_id + np.arange(len(array))
            if present.any():
                storage.write(RowBatch(array, ids, metadata, present, normalize=True))
        return np.where(present, ids, -1)

    @check_arguments
    def delete(self, ids: Sequence[int] | np.ndarray | None = None, *, filter: str | None = None) -> int:
        """Delete the rows `ids`, or all rows that meet the condition `filter`. Returns the number of deleted rows.

        Deleted rows are not found anymore. Their vectors stay in the files until `compact`.

        Raises:
            OutputError: another process is changing the index, or the disk is full.
            DataError: a row does not exist; not exactly one of `ids` and `filter` is given; the condition is invalid.
        """
        if (ids is None) == (filter is None):
            raise DataError("give either ids or a filter condition")
        storage = self._storage
        with storage.transaction():
            return storage.delete(storage.filter_mask(filter) if ids is None else storage.positions(ids))

    def compact(self) -> None:
        """Remove deleted rows from disk: write the remaining rows as one segment, and rebuild the graph.

        Raises:
            OutputError: another process is changing the index, or the disk is full.
            DataError: no row is left.
        """
        with self._storage.transaction():
            self._storage.compact()
