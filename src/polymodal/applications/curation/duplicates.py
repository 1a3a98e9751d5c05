"""Near-duplicates: items whose embeddings are closer than the distances in the data explain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Maximum number of similarities in memory at once.
BLOCK_ELEMENTS = 2**22
#: Expected number of false positives at the automatic threshold.
EXPECTED_FALSE_POSITIVES = 0.1
#: Lower limit of the automatic threshold; the default threshold for fewer than `MIN_ITEMS` distinct items.
MIN_THRESHOLD, FALLBACK_THRESHOLD, MIN_ITEMS = 0.9, 0.98, 20


@dataclass(frozen=True)
class SimilarityThreshold:
    """The minimum cosine similarity of near-duplicates, and how it was chosen."""

    similarity: float
    reason: str


@dataclass(frozen=True)
class DuplicateGroup:
    """Rows with (nearly) the same item.

    rows: sorted row numbers
    items: number of distinct items; 1 if the rows are exact duplicates
    similarity: lowest cosine similarity of an item to its nearest neighbor in the group; 1 for exact duplicates
    sources: the tables or splits that contain the rows, sorted
    """

    rows: np.ndarray
    items: int
    similarity: float
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Duplicates:
    """Groups of duplicate rows: near-duplicates before exact duplicates, largest group first.

    items: number of distinct items that were compared
    """

    threshold: SimilarityThreshold
    groups: list[DuplicateGroup]
    items: int

    @property
    def near(self) -> list[DuplicateGroup]:
        """Groups of near-duplicates."""
        return [group for group in self.groups if group.items > 1]

    @property
    def exact(self) -> list[DuplicateGroup]:
        """Groups of exact duplicates."""
        return [group for group in self.groups if group.items == 1]

    @property
    def leaks(self) -> list[DuplicateGroup]:
        """Groups with rows in several sources, for example in training and test data (leakage)."""
        return [group for group in self.groups if len(group.sources) > 1]


def find_near_duplicates(
    vectors: np.ndarray,
    *,
    items: np.ndarray | None = None,
    threshold: float | None = None,
    sources: np.ndarray | None = None,
) -> Duplicates:
    """Groups of rows whose items have a similarity of at least `threshold`, directly or through other items.

    vectors: `[rows, dim]` float32 unit vectors, NaN in rows without the input
    items: `[rows]`, the item of each row (equal contents have the same number), -1 if missing; None: every row is an
        item
    threshold: minimum cosine similarity; None: chosen by `choose_threshold`
    sources: `[rows]`, the table or split of each row (such as train, test), or None

    All pairs of items are compared, so time is quadratic in the number of items. Similarities are computed in blocks,
    so memory is linear.

    Example:
        >>> import numpy as np
        >>> vectors = np.array([[1, 0], [0, 1], [1, 0.01]], np.float32)
        >>> vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        >>> [group.rows.tolist() for group in find_near_duplicates(vectors, threshold=0.99).groups]
        [[0, 2]]
    """
    items = np.arange(len(vectors)) if items is None else items
    present = np.flatnonzero((items >= 0) & ~np.isnan(vectors).any(1))
    _, first, item = np.unique(items[present], return_index=True, return_inverse=True)
    distinct = vectors[present[first]]
    nearest = nearest_similarity(distinct)
    chosen = choose_threshold(nearest) if threshold is None else SimilarityThreshold(threshold, "set by the user")
    label = _connected_components(distinct, nearest, chosen.similarity)[item]
    groups = [_group(present[rows], item[rows], nearest, sources) for rows in _repeated(label)]
    groups.sort(key=lambda group: (group.items == 1, -group.items, -len(group.rows), group.rows[0]))
    return Duplicates(chosen, groups, len(distinct))


def nearest_similarity(vectors: np.ndarray) -> np.ndarray:
    """The similarity `[n]` of each vector to its nearest neighbor; -1 for a single vector."""
    nearest = np.full(len(vectors), -1.0, np.float32)
    for start, similarity in _blocks(vectors, vectors):
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -1
        nearest[start : start + len(similarity)] = similarity.max(1, initial=-1)
    return np.minimum(nearest, 1.0)


def choose_threshold(nearest: np.ndarray) -> SimilarityThreshold:
    """Choose a similarity that distinct items rarely reach.

    nearest: `[items]`, similarity of each distinct item to its nearest neighbor

    For points with uniform density in m dimensions, the distance r to the nearest neighbor has the Weibull distribution
    1 - exp(-c r^m), where m is the intrinsic dimension (Levina and Bickel, "Maximum Likelihood Estimation of Intrinsic
    Dimension", 2004). With r^2 = 2 - 2 cos, the quartiles of r give m and c; a few duplicates hardly change them. The
    threshold is the distance below which this distribution expects `EXPECTED_FALSE_POSITIVES` items. If the density
    varies strongly, m is underestimated and the threshold is too strict, never too loose.
    """
    if len(nearest) < MIN_ITEMS:
        return SimilarityThreshold(FALLBACK_THRESHOLD, f"default: fewer than {MIN_ITEMS} distinct items")
    distance = np.sqrt(np.maximum(2 - 2 * nearest.astype(np.float64), 0))
    quarter, half, three = np.quantile(distance, [0.25, 0.5, 0.75])
    if not 0 < quarter < three:
        return SimilarityThreshold(FALLBACK_THRESHOLD, "default: the nearest-neighbor distances hardly vary")
    dimension = math.log(math.log(4) / math.log(4 / 3)) / math.log(three / quarter)
    radius = half * (EXPECTED_FALSE_POSITIVES / (len(nearest) * math.log(2))) ** (1 / dimension)
    similarity = 1 - radius**2 / 2
    if similarity < MIN_THRESHOLD:
        return SimilarityThreshold(MIN_THRESHOLD, f"lower limit; the nearest-neighbor distances give {similarity:.3f}")
    return SimilarityThreshold(
        float(similarity),
        f"the median similarity to the nearest neighbor is {1 - half**2 / 2:.3f}; at {similarity:.4f}, "
        f"{EXPECTED_FALSE_POSITIVES:g} of {len(nearest):,} items are expected by chance",
    )


def _blocks(queries: np.ndarray, vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The index of the first row of each block, and the similarities `[rows, vectors]` of the block."""
    step = max(1, BLOCK_ELEMENTS // max(1, len(vectors)))
    for start in range(0, len(queries), step):
        yield start, queries[start : start + step] @ vectors.T


def _connected_components(vectors: np.ndarray, nearest: np.ndarray, threshold: float) -> np.ndarray:
    """The component `[n]` of each vector; similarities of at least `threshold` are the edges."""
    label = np.arange(len(vectors))
    close = np.flatnonzero(nearest >= threshold)
    for start, similarity in _blocks(vectors[close], vectors[close]):
        one, other = np.nonzero(similarity >= threshold)
        edges = (label[close[start + one]], label[close[other]])
        graph = coo_array((np.ones(len(one), bool), edges), shape=(len(label), len(label)))
        label = connected_components(graph, directed=False)[1][label]
    return label


def _repeated(label: np.ndarray) -> list[np.ndarray]:
    """The indices of each label that occurs more than once."""
    order = np.argsort(label, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(label[order])) + 1) if len(order) else []
    return [run for run in runs if len(run) > 1]


def _group(rows: np.ndarray, items: np.ndarray, nearest: np.ndarray, sources: np.ndarray | None) -> DuplicateGroup:
    distinct = np.unique(items)
    similarity = float(nearest[distinct].min()) if len(distinct) > 1 else 1.0
    group_sources = () if sources is None else tuple(sorted({str(source) for source in sources[rows]}))
    return DuplicateGroup(np.sort(rows), len(distinct), similarity, group_sources)
