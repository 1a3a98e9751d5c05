"""Exact search: a blocked matrix product over vectors that stay on the disk.

The product decides who is near enough to be looked at; each of those is then scored again, in float64 and summed in
an order that does not depend on its place. So equal vectors have equal similarities, wherever they lie, and ties are
broken by the id alone; exact and approximate search give the same number for the same pair.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

#: A block is cut to about this many bytes of float32 vectors, and its similarities to as many.
_BLOCK_BYTES = 32 << 20
#: By how much a float32 product of two unit vectors may be wrong; whoever is within it of the last place is scored.
_ROUNDING_MARGIN = 2e-5
#: Below this share of allowed rows in a block, they are copied out of it before the product.
_COPY_BELOW = 0.3


@dataclass(frozen=True)
class SearchResults:
    """What was found for each query, most similar first; of equal ones the row that was added first.

    ids: `[queries, count]` int64, -1 where there are fewer rows
    similarity: `[queries, count]` float32, cosines between -1 and 1, -inf where there are fewer rows
    """

    ids: np.ndarray
    similarity: np.ndarray


def exact_search(
    queries: np.ndarray, parts: Sequence[np.ndarray], count: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` most similar rows to each query, most similar first, of equals the earlier row first.

    queries: `[queries, size]` float32 unit vectors
    parts: arrays `[rows, size]` of unit vectors, which follow each other; memory-mapped ones are read block by block
    allowed: `[all rows]` bool, the rows that may be found; None: all

    Returns places `[queries, count]` int64, counted through all parts, and similarities `[queries, count]` float32;
    -1 and -inf where fewer rows are allowed. Uses as many threads as torch does.
    """
    best = TopK(queries, count)
    size = queries.shape[1]
    rows = max(256, _BLOCK_BYTES // 4 // max(size, len(queries)))
    start = 0
    for part in parts:
        for begin in range(0, len(part), rows):
            end = min(begin + rows, len(part))
            places = np.arange(start + begin, start + end)
            block = part[begin:end]
            chosen = None
            if allowed is not None:
                chosen = allowed[start + begin : start + end]
                if not chosen.any():
                    continue
                if chosen.mean() < _COPY_BELOW:
                    places, block, chosen = places[chosen], block[chosen], None
            best.add(np.ascontiguousarray(block, np.float32), places, chosen)
        start += len(part)
    return best.finish()


def pair_similarity(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The cosine of pairs `[n, size]` of unit vectors, as float32 `[n]`; the same for the same pair, always."""
    return (queries.astype(np.float64) * vectors.astype(np.float64)).sum(1).astype(np.float32)


class TopK:
    """The best `count` places of each query so far."""

    def __init__(self, queries: np.ndarray, count: int) -> None:
        self.queries, self.count = queries, count
        self._queries = torch.from_numpy(np.array(queries, np.float32))
        self.query = np.empty(0, np.int64)
        self.places = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)
        self._floor = torch.full((len(queries), 1), -torch.inf)

    def add(self, block: np.ndarray, places: np.ndarray, chosen: np.ndarray | None = None) -> None:
        """Offer `block [rows, size]`, float32 and contiguous, whose rows lie at `places [rows]`; only those of
        `chosen [rows]` bool."""
        with torch.inference_mode():
            product = self._queries @ _tensor(block).T
            if chosen is not None:
                product.masked_fill_(torch.from_numpy(~chosen), -torch.inf)
            floor = self._floor
            if len(block) > self.count:
                floor = torch.maximum(floor, product.topk(self.count).values[:, -1:])
            # no cosine is below -2: what is not chosen never passes
            found = (product >= (floor - _ROUNDING_MARGIN).clamp(min=-2.0)).nonzero().numpy()
        if not len(found):
            return
        query, row = found[:, 0], found[:, 1]
        self._merge(query, places[row], self._scores(query, block, row))

    def _scores(self, query: np.ndarray, block: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Piece by piece: a table of nothing but equal rows makes candidates of them all."""
        step = max(1, _BLOCK_BYTES // 8 // block.shape[1])
        pieces = [slice(begin, begin + step) for begin in range(0, len(query), step)]
        return np.concatenate([pair_similarity(self.queries[query[one]], block[row[one]]) for one in pieces])

    def _merge(self, query: np.ndarray, places: np.ndarray, scores: np.ndarray) -> None:
        query = np.concatenate([self.query, query])
        places = np.concatenate([self.places, places])
        scores = np.concatenate([self.scores, scores])
        order = np.lexsort((places, -scores, query))
        query, places, scores = query[order], places[order], scores[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        kept = rank < self.count
        self.query, self.places, self.scores = query[kept], places[kept], scores[kept]
        full = rank[kept] == self.count - 1
        self._floor[self.query[full], 0] = torch.from_numpy(self.scores[full])

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Places and similarities `[queries, count]`."""
        return rank_pairs(self.query, self.places, self.scores, len(self.queries), self.count)


def _tensor(block: np.ndarray) -> torch.Tensor:
    """The block without a copy. That it is mapped read-only is as it should be: nothing writes into it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(block)


def rank_pairs(
    query: np.ndarray, places: np.ndarray, scores: np.ndarray, queries: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a query and a place as a table `[queries, count]`, most similar first, then by place."""
    order = np.lexsort((places, -scores, query))
    query, places, scores = query[order], places[order], scores[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    kept = rank < count
    found = np.full((queries, count), -1, np.int64)
    similarity = np.full((queries, count), -np.inf, np.float32)
    found[query[kept], rank[kept]], similarity[query[kept], rank[kept]] = places[kept], scores[kept]
    return found, similarity


def exclude_self(hits: SearchResults, own: np.ndarray, count: int) -> np.ndarray:
    """The similarities `[queries, count]` of the found rows without the query's own."""
    similarity = np.where(hits.ids == own[:, None], -np.inf, hits.similarity)
    return -np.sort(-similarity, axis=1)[:, :count]
