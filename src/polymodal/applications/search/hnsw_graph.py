"""HNSW graph for approximate nearest-neighbor search, implemented by usearch.

Yu. A. Malkov, D. A. Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
Small World graphs", 2016. Each row is linked to `connectivity` near rows on every level; level l contains a row
with probability e^(-l / m), m = 1 / ln(connectivity). A search moves greedily towards the query from the top level
down, and on the lowest level keeps the `ef_search` best rows. A row is added by a search for its neighbors, so the
graph is not rebuilt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from polymodal.applications.search.manifest import HNSWState
from polymodal.core.errors import ArtifactError, MissingExtraError

#: Number format of the graph's own copy of the vectors. Candidates are scored again with the vectors of the segments.
_DTYPE = "bf16"


class HNSWGraph:
    """A graph over row ids; `state` contains its file and its search options."""

    def __init__(self, index: Any, state: HNSWState) -> None:
        self._index, self.state = index, state

    @classmethod
    def empty(cls, dim: int, state: HNSWState) -> HNSWGraph:
        """A graph without rows.

        Raises:
            MissingExtraError: usearch is not installed.
        """
        return cls(_index(dim, state), state)

    @classmethod
    def open(cls, folder: Path, dim: int, state: HNSWState, *, change: bool) -> HNSWGraph:
        """Open the graph on disk: memory-mapped for search, loaded into memory for changes (`change`).

        Raises:
            ArtifactError: the file cannot be read, or does not match these vectors.
            MissingExtraError: usearch is not installed.
        """
        index = _index(dim, state)
        if state.file is not None:
            path = folder / state.file.name
            try:
                (index.load if change else index.view)(str(path))
            except (RuntimeError, ValueError) as error:
                raise ArtifactError(f"{path} cannot be read: {error}; build the index again") from None
            if index.ndim != dim or len(index) != state.num_rows:
                raise ArtifactError(f"{path} does not match this index; build the index again")
            index.expansion_add, index.expansion_search = state.ef_construction, state.ef_search
        return cls(index, state)

    def __len__(self) -> int:
        return len(self._index)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add `vectors [rows, dim]` with `ids [rows]`. Uses as many threads as torch."""
        self._index.add(ids.astype(np.uint64), vectors.astype(np.float32), threads=torch.get_num_threads())

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The `count` approximate neighbors of each query, unordered: query numbers and ids, `[pairs]` int64 each."""
        count = min(count, len(self))
        if count == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        matches = self._index.search(queries, count, threads=torch.get_num_threads())
        keys = np.atleast_2d(matches.keys)
        counts = getattr(matches, "counts", np.array([keys.shape[1]]))
        is_result = np.arange(keys.shape[1]) < np.reshape(counts, (-1, 1))
        return is_result.nonzero()[0], keys[is_result].astype(np.int64)

    def save(self, path: Path) -> None:
        self._index.save(str(path))


def _index(dim: int, state: HNSWState) -> Any:
    try:
        from usearch.index import Index
    except ImportError:
        raise MissingExtraError("usearch", "search", "an approximate index") from None
    return Index(
        ndim=dim,
        metric="ip",
        dtype=_DTYPE,
        connectivity=state.connectivity,
        expansion_add=state.ef_construction,
        expansion_search=state.ef_search,
        enable_key_lookups=False,
    )
