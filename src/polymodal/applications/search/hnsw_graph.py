"""Approximate search: a navigable graph, kept by usearch.

Yu. A. Malkov, D. A. Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
Small World graphs", 2016. Each row is linked to `connectivity` near rows on every level; level l holds a row with
probability e^(-l / m), m = 1 / ln(connectivity). A search walks greedily towards the query from the top level down and
on the lowest keeps the `expansion` best rows seen. A row is added by such a search for its neighbours, so adding needs
no rebuilding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from polymodal.applications.search.manifest import HNSWState
from polymodal.core.errors import ArtifactError, MissingExtraError

#: How the graph's own copy of a vector is kept. What it finds is scored again with the vectors of the segments.
_DTYPE = "bf16"


class HNSWGraph:
    """A graph over ids. `facts` says where it lies and how it is searched."""

    def __init__(self, index: Any, facts: HNSWState) -> None:
        self._index, self.facts = index, facts

    @classmethod
    def empty(cls, size: int, facts: HNSWState) -> HNSWGraph:
        """A graph of no rows.

        Raises:
            MissingExtraError: usearch is not installed.
        """
        return cls(_index(size, facts), facts)

    @classmethod
    def open(cls, folder: Path, size: int, facts: HNSWState, *, change: bool) -> HNSWGraph:
        """The graph on the disk: mapped for searching, read into memory to be changed.

        Raises:
            ArtifactError: the file cannot be read, or is not of these vectors.
            MissingExtraError: usearch is not installed.
        """
        index = _index(size, facts)
        if facts.file is not None:
            path = folder / facts.file.name
            try:
                (index.load if change else index.view)(str(path))
            except (RuntimeError, ValueError) as error:
                raise ArtifactError(f"{path} cannot be read: {error}; build the index again") from None
            if index.ndim != size or len(index) != facts.rows:
                raise ArtifactError(f"{path} is not the graph of this index; build the index again")
            index.expansion_add, index.expansion_search = facts.expansion_add, facts.expansion_search
        return cls(index, facts)

    def __len__(self) -> int:
        return len(self._index)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Link `vectors [rows, size]` in, under `ids [rows]`. Uses as many threads as torch does."""
        self._index.add(ids.astype(np.uint64), vectors.astype(np.float32), threads=torch.get_num_threads())

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of near ones, unordered: the query's number and the id, `[pairs]` int64 each."""
        count = min(count, len(self))
        if count == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        found = self._index.search(queries, count, threads=torch.get_num_threads())
        keys = np.atleast_2d(found.keys)
        counts = getattr(found, "counts", np.array([keys.shape[1]]))
        real = np.arange(keys.shape[1]) < np.reshape(counts, (-1, 1))
        return real.nonzero()[0], keys[real].astype(np.int64)

    def save(self, path: Path) -> None:
        self._index.save(str(path))


def _index(size: int, facts: HNSWState) -> Any:
    try:
        from usearch.index import Index
    except ImportError:
        raise MissingExtraError("usearch", "search", "an approximate index") from None
    return Index(
        ndim=size,
        metric="ip",
        dtype=_DTYPE,
        connectivity=facts.connectivity,
        expansion_add=facts.expansion_add,
        expansion_search=facts.expansion_search,
        enable_key_lookups=False,
    )
