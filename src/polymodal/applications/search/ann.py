"""Approximate nearest-neighbor search: by the HNSW graph if it is faster, else by exact search."""

from __future__ import annotations

import math

import numpy as np

from polymodal.applications.search.exact import exact_search, pair_similarity, rank_pairs
from polymodal.applications.search.hnsw_graph import HNSWGraph
from polymodal.applications.search.rows import IndexRows

#: Up to this many allowed rows, exact search is at least as fast as the graph.
_EXACT_BELOW = 20_000
#: Maximum number of candidates from the graph; a filter that would need more of them is searched exactly.
_MAX_CANDIDATES = 1_000


def approximate_search(
    queries: np.ndarray,
    rows: IndexRows,
    graph: HNSWGraph,
    top_k: int,
    allowed: np.ndarray | None,
    ef_search: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and similarities `[queries, top_k]` like `exact_search`, of the approximate nearest neighbors.

    allowed: `[rows]` bool; None: all
    ef_search: number of candidates of the graph search; default: as the index was built

    The graph returns more than `top_k` candidates, because some may not be allowed and because it compares rounded
    vectors; the candidates are scored again with the stored vectors. Rows that are not in the graph yet are searched
    exactly. A query with fewer than `top_k` results is searched exactly if more rows are allowed.
    """
    num_linked = int(np.searchsorted(rows.ids, graph.state.last_id, side="right"))
    num_allowed_linked = num_linked if allowed is None else int(allowed[:num_linked].sum())
    num_candidates = math.ceil(2 * top_k * len(graph) / max(1, num_allowed_linked)) + 8
    if num_allowed_linked <= _EXACT_BELOW or (allowed is not None and num_candidates > max(_MAX_CANDIDATES, 2 * top_k)):
        return exact_search(queries, rows.vectors, top_k, allowed)
    query, ids = graph.search(queries, max(num_candidates, ef_search or 0))  # the graph needs ef_search >= top_k
    positions = rows.positions_of(ids)
    is_allowed = positions >= 0
    if allowed is not None:
        is_allowed &= allowed[positions]
    query, positions = query[is_allowed], positions[is_allowed]
    scores = pair_similarity(queries[query], rows.gather(positions))
    if num_linked < len(rows):
        unlinked_allowed = None if allowed is None else allowed[num_linked:]
        unlinked, similarity = exact_search(queries, rows.after(num_linked), top_k, unlinked_allowed)
        is_result = unlinked >= 0
        query = np.concatenate([query, is_result.nonzero()[0]])
        positions = np.concatenate([positions, unlinked[is_result] + num_linked])
        scores = np.concatenate([scores, similarity[is_result]])
    results, similarity = rank_pairs(query, positions, scores, len(queries), top_k)
    num_allowed = len(rows) if allowed is None else int(allowed.sum())
    incomplete = (results >= 0).sum(1) < min(top_k, num_allowed)
    if incomplete.any():
        results[incomplete], similarity[incomplete] = exact_search(queries[incomplete], rows.vectors, top_k, allowed)
    return results, similarity
