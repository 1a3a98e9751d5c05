"""Approximate search among allowed rows: the graph where that is quicker, exact search where it is not."""

from __future__ import annotations

import math

import numpy as np

from polymodal.applications.search.exact import exact_search, rank_pairs, pair_similarity
from polymodal.applications.search.hnsw_graph import HNSWGraph
from polymodal.applications.search.rows import IndexRows

#: Up to this many allowed rows are searched exactly: that takes no longer than the graph.
_EXACT_BELOW = 20_000
#: Most rows that the graph is asked for; a filter that leaves too few of so many is searched exactly.
_MAX_CANDIDATES = 1_000


def approximate_search(
    queries: np.ndarray,
    rows: IndexRows,
    graph: HNSWGraph,
    count: int,
    allowed: np.ndarray | None,
    expansion: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Places and similarities `[queries, count]`, as `exact_search` gives them, of rows that are probably the nearest.

    allowed: `[rows]` bool; None: all
    expansion: how many rows the walk keeps in view; by default as the graph was built

    The graph is asked for more rows than are wanted, for what is not allowed, and since it compares rounded vectors;
    they are scored again with the stored ones. Rows that the graph does not have yet are searched exactly, and so is
    every query for which fewer than `count` allowed rows were found though there are more.
    """
    linked = int(np.searchsorted(rows.ids, graph.facts.last, side="right"))
    free = linked if allowed is None else int(allowed[:linked].sum())
    wanted = math.ceil(2 * count * len(graph) / max(1, free)) + 8
    if free <= _EXACT_BELOW or (allowed is not None and wanted > max(_MAX_CANDIDATES, 2 * count)):
        return exact_search(queries, rows.vectors, count, allowed)
    query, ids = graph.search(queries, max(wanted, expansion or 0))  # what is asked for is kept in view, at least
    places = rows.find(ids)
    good = places >= 0
    if allowed is not None:
        good &= allowed[places]
    query, places = query[good], places[good]
    scores = pair_similarity(queries[query], rows.gather(places))
    if linked < len(rows):
        rest = None if allowed is None else allowed[linked:]
        late, similarity = exact_search(queries, rows.after(linked), count, rest)
        real = late >= 0
        query = np.concatenate([query, real.nonzero()[0]])
        places = np.concatenate([places, late[real] + linked])
        scores = np.concatenate([scores, similarity[real]])
    found, similarity = rank_pairs(query, places, scores, len(queries), count)
    there = len(rows) if allowed is None else int(allowed.sum())
    short = (found >= 0).sum(1) < min(count, there)
    if short.any():
        found[short], similarity[short] = exact_search(queries[short], rows.vectors, count, allowed)
    return found, similarity
