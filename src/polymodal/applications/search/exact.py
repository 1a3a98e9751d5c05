"""Exact search: a blocked matrix product over memory-mapped vectors.

The matrix product selects candidates. Each candidate is then scored again in float64, with a summation order that does
not depend on its position. Therefore equal vectors have equal similarities, ties are broken only by the id, and exact
and approximate search give the same similarity for the same pair.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

#: Approximate size of a block of float32 vectors in bytes, and of its similarities.
_BLOCK_BYTES = 32 << 20
#: Bound of the rounding error of a float32 product of unit vectors; rows within it of the last rank are scored again.
_ROUNDING_MARGIN = 2e-5
#: Below this fraction of allowed rows in a block, the allowed rows are copied before the product.
_COPY_BELOW = 0.3


@dataclass(frozen=True)
class SearchResults:
    """The most similar rows for each query, in descending order of similarity; on ties, the row that was added first.

    ids: `[queries, top_k]` int64, -1 if there are fewer rows
    similarity: `[queries, top_k]` float32, cosine similarities between -1 and 1, -inf if there are fewer rows
    """

    ids: np.ndarray
    similarity: np.ndarray


def exact_search(
    queries: np.ndarray, segments: Sequence[np.ndarray], top_k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `top_k` most similar rows for each query, in descending order of similarity; on ties, the earlier row first.

    queries: `[queries, dim]` float32 unit vectors
    segments: consecutive arrays `[rows, dim]` of unit vectors; memory-mapped arrays are read block by block
    allowed: `[all rows]` bool, the rows to search; None: all

    Returns positions `[queries, top_k]` int64, counted through all segments, and similarities `[queries, top_k]`
    float32; -1 and -inf if fewer rows are allowed. Uses as many threads as torch.

    Example:
        >>> import numpy as np
        >>> vectors = np.eye(3, dtype=np.float32)
        >>> positions, similarity = exact_search(vectors[1:2], [vectors], top_k=1)
        >>> positions.tolist(), similarity.tolist()
        ([[1]], [[1.0]])
    """
    best = TopK(queries, top_k)
    dim = queries.shape[1]
    rows = max(256, _BLOCK_BYTES // 4 // max(dim, len(queries)))
    start = 0
    for segment in segments:
        for offset in range(0, len(segment), rows):
            end = min(offset + rows, len(segment))
            positions = np.arange(start + offset, start + end)
            block = segment[offset:end]
            mask = None
            if allowed is not None:
                mask = allowed[start + offset : start + end]
                if not mask.any():
                    continue
                if mask.mean() < _COPY_BELOW:
                    positions, block, mask = positions[mask], block[mask], None
            best.add(np.ascontiguousarray(block, np.float32), positions, mask)
        start += len(segment)
    return best.results()


def pair_similarity(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The cosine similarities `[n]` float32 of pairs of unit vectors `[n, dim]`, independent of their position."""
    return (queries.astype(np.float64) * vectors.astype(np.float64)).sum(1).astype(np.float32)


class TopK:
    """The `top_k` best positions of each query so far."""

    def __init__(self, queries: np.ndarray, top_k: int) -> None:
        self.queries, self.top_k = queries, top_k
        self._queries = torch.from_numpy(np.array(queries, np.float32))
        self.query = np.empty(0, np.int64)
        self.positions = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)
        self._lowest = torch.full((len(queries), 1), -torch.inf)

    def add(self, block: np.ndarray, positions: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Add the rows of `block [rows, dim]`, float32 and contiguous, at `positions [rows]`; only those in
        `mask [rows]` bool."""
        with torch.inference_mode():
            product = self._queries @ _tensor(block).T
            if mask is not None:
                product.masked_fill_(torch.from_numpy(~mask), -torch.inf)
            lowest = self._lowest
            if len(block) > self.top_k:
                lowest = torch.maximum(lowest, product.topk(self.top_k).values[:, -1:])
            # cosines are above -2, so masked rows never pass
            candidates = (product >= (lowest - _ROUNDING_MARGIN).clamp(min=-2.0)).nonzero().numpy()
        if not len(candidates):
            return
        query, row = candidates[:, 0], candidates[:, 1]
        self._merge(query, positions[row], self._scores(query, block, row))

    def _scores(self, query: np.ndarray, block: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Score candidates in chunks, because all rows are candidates if all vectors are equal."""
        step = max(1, _BLOCK_BYTES // 8 // block.shape[1])
        chunks = [slice(offset, offset + step) for offset in range(0, len(query), step)]
        return np.concatenate([pair_similarity(self.queries[query[chunk]], block[row[chunk]]) for chunk in chunks])

    def _merge(self, query: np.ndarray, positions: np.ndarray, scores: np.ndarray) -> None:
        query = np.concatenate([self.query, query])
        positions = np.concatenate([self.positions, positions])
        scores = np.concatenate([self.scores, scores])
        order = np.lexsort((positions, -scores, query))
        query, positions, scores = query[order], positions[order], scores[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        is_top = rank < self.top_k
        self.query, self.positions, self.scores = query[is_top], positions[is_top], scores[is_top]
        full = rank[is_top] == self.top_k - 1
        self._lowest[self.query[full], 0] = torch.from_numpy(self.scores[full])

    def results(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and similarities `[queries, top_k]`."""
        return rank_pairs(self.query, self.positions, self.scores, len(self.queries), self.top_k)


def _tensor(block: np.ndarray) -> torch.Tensor:
    """The block as a tensor without a copy. It may be mapped read-only, since nothing writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(block)


def rank_pairs(
    query: np.ndarray, positions: np.ndarray, scores: np.ndarray, queries: int, top_k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a query and a position as a table `[queries, top_k]`, by descending similarity, then by position."""
    order = np.lexsort((positions, -scores, query))
    query, positions, scores = query[order], positions[order], scores[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    is_top = rank < top_k
    positions_table = np.full((queries, top_k), -1, np.int64)
    similarity = np.full((queries, top_k), -np.inf, np.float32)
    positions_table[query[is_top], rank[is_top]], similarity[query[is_top], rank[is_top]] = (
        positions[is_top],
        scores[is_top],
    )
    return positions_table, similarity


def exclude_self(results: SearchResults, own_ids: np.ndarray, top_k: int) -> np.ndarray:
    """The similarities `[queries, top_k]` of the results without the query row itself."""
    similarity = np.where(results.ids == own_ids[:, None], -np.inf, results.similarity)
    return -np.sort(-similarity, axis=1)[:, :top_k]
