"""Items that are nearly the same: embeddings nearer to each other than the data's own distances explain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Similarities that are held at once.
BLOCK = 2**22
#: How many rows that are no duplicates the chosen threshold is expected to hold for ones.
FALSE_ALARMS = 0.1
#: The chosen threshold is no lower than this, and it is `FEW` where there are fewer distinct items than `FEWEST`.
LOWEST, FEW, FEWEST = 0.9, 0.98, 20


@dataclass(frozen=True)
class Threshold:
    """The cosine similarity from which on two items are nearly the same, and how it was chosen."""

    similarity: float
    reason: str


@dataclass(frozen=True)
class Group:
    """Rows that are nearly the same.

    rows: sorted
    items: how many distinct items they have; 1: the rows are exact duplicates
    similarity: the lowest cosine similarity of an item to its nearest in the group; 1 for exact duplicates
    parts: the parts of the data that the rows are in, sorted
    """

    rows: np.ndarray
    items: int
    similarity: float
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Duplicates:
    """Groups of rows, those of different items before exact duplicates, the largest first.

    items: distinct items that were compared
    """

    threshold: Threshold
    groups: list[Group]
    items: int

    @property
    def near(self) -> list[Group]:
        return [group for group in self.groups if group.items > 1]

    @property
    def exact(self) -> list[Group]:
        return [group for group in self.groups if group.items == 1]

    @property
    def leaks(self) -> list[Group]:
        """Groups with rows in several parts: what a score on one part, learned on another, must not rest on."""
        return [group for group in self.groups if len(group.parts) > 1]


def near_duplicates(
    vectors: np.ndarray,
    *,
    items: np.ndarray | None = None,
    threshold: float | None = None,
    parts: np.ndarray | None = None,
) -> Duplicates:
    """Groups of rows whose items are alike from `threshold` on, directly or through others of the group.

    vectors: `[rows, size]` float32 of unit length, NaN in rows that lack the input
    items: `[rows]`, the item of each row by its content, -1 where it is missing; None: every row is an item
    threshold: cosine similarity; None chooses it by `chosen_threshold`
    parts: `[rows]`, the part of the data that each row is in (train, test), or None

    Every item is compared with every other, so time grows with the square of their number; similarities are computed
    in blocks, and memory grows with the number of items alone.
    """
    items = np.arange(len(vectors)) if items is None else items
    there = np.flatnonzero((items >= 0) & ~np.isnan(vectors).any(1))
    _, first, item = np.unique(items[there], return_index=True, return_inverse=True)
    distinct = vectors[there[first]]
    nearest = nearest_similarity(distinct)
    chosen = chosen_threshold(nearest) if threshold is None else Threshold(threshold, "given")
    label = _connected(distinct, nearest, chosen.similarity)[item]
    groups = [_group(there[rows], item[rows], nearest, parts) for rows in _several(label)]
    groups.sort(key=lambda group: (group.items == 1, -group.items, -len(group.rows), group.rows[0]))
    return Duplicates(chosen, groups, len(distinct))


def nearest_similarity(vectors: np.ndarray) -> np.ndarray:
    """The similarity of each vector to the nearest other one, `[n]`; -1 where there is no other."""
    nearest = np.full(len(vectors), -1.0, np.float32)
    for start, similarity in _blocks(vectors, vectors):
        own = np.arange(len(similarity))
        similarity[own, start + own] = -1
        nearest[start : start + len(similarity)] = similarity.max(1, initial=-1)
    return np.minimum(nearest, 1.0)


def chosen_threshold(nearest: np.ndarray) -> Threshold:
    """The similarity that the data's own distances make improbable.

    nearest: `[items]`, similarity of each distinct item to the nearest other

    Around a point of a set that fills m dimensions evenly, the distance r to the nearest other point has the
    distribution 1 - exp(-c r^m) (Weibull's; m is an intrinsic dimension, as in Levina and Bickel, "Maximum Likelihood
    Estimation of Intrinsic Dimension", 2004). With r^2 = 2 - 2 cos, the quartiles of r give m and c: few duplicates
    hardly move them. The threshold is the distance below which that law expects `FALSE_ALARMS` of all items. Where
    density varies much, m comes out too small and the threshold too strict, never too loose.
    """
    if len(nearest) < FEWEST:
        return Threshold(FEW, f"there are fewer than {FEWEST} distinct items to choose it by")
    distance = np.sqrt(np.maximum(2 - 2 * nearest.astype(np.float64), 0))
    quarter, half, three = np.quantile(distance, [0.25, 0.5, 0.75])
    if not 0 < quarter < three:
        return Threshold(FEW, "most items are as near to their nearest as any other, which tells nothing")
    dimension = math.log(math.log(4) / math.log(4 / 3)) / math.log(three / quarter)
    radius = half * (FALSE_ALARMS / (len(nearest) * math.log(2))) ** (1 / dimension)
    found = 1 - radius**2 / 2
    if found < LOWEST:
        return Threshold(LOWEST, f"distances to the nearest item would allow {found:.3f}; it is no lower than {LOWEST}")
    return Threshold(
        float(found),
        f"half of the items have their nearest at {1 - half**2 / 2:.3f}; "
        f"from {found:.4f} on, {FALSE_ALARMS:g} of {len(nearest):,} items are expected by chance",
    )


def _blocks(queries: np.ndarray, vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The first row of each block, and its similarities `[rows, vectors]`."""
    step = max(1, BLOCK // max(1, len(vectors)))
    for start in range(0, len(queries), step):
        yield start, queries[start : start + step] @ vectors.T


def _connected(vectors: np.ndarray, nearest: np.ndarray, threshold: float) -> np.ndarray:
    """A label `[n]` for each vector, equal for those that similarities from `threshold` on connect."""
    label = np.arange(len(vectors))
    close = np.flatnonzero(nearest >= threshold)
    for start, similarity in _blocks(vectors[close], vectors[close]):
        one, other = np.nonzero(similarity >= threshold)
        edges = (label[close[start + one]], label[close[other]])
        graph = coo_array((np.ones(len(one), bool), edges), shape=(len(label), len(label)))
        label = connected_components(graph, directed=False)[1][label]
    return label


def _several(label: np.ndarray) -> list[np.ndarray]:
    """The places of each label that occurs more than once."""
    order = np.argsort(label, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(label[order])) + 1) if len(order) else []
    return [run for run in runs if len(run) > 1]


def _group(rows: np.ndarray, items: np.ndarray, nearest: np.ndarray, parts: np.ndarray | None) -> Group:
    distinct = np.unique(items)
    similarity = float(nearest[distinct].min()) if len(distinct) > 1 else 1.0
    inside = () if parts is None else tuple(sorted({str(part) for part in parts[rows]}))
    return Group(np.sort(rows), len(distinct), similarity, inside)
