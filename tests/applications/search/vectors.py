"""Vectors that tests search: planted clusters, with some that are equal to the last bit."""

from __future__ import annotations

import numpy as np

from polymodal.applications.search.rows import unit_vectors


def clusters(rows: int, size: int = 24, *, seed: int = 0, groups: int = 50) -> np.ndarray:
    """`[rows, size]` float32 around `groups` centres, which are the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((groups, size))
    rng = np.random.default_rng([1, seed])
    return (centres[rng.integers(0, groups, rows)] + 0.5 * rng.standard_normal((rows, size))).astype(np.float32)


def brute(queries: np.ndarray, vectors: np.ndarray, count: int, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of `vectors`, whose ids are `ids`, by the definition: all cosines, sorted, equals by their ids."""
    found = np.full((len(queries), count), -1)
    similarity = np.full((len(queries), count), -np.inf, np.float32)
    for place, query in enumerate(unit_vectors(queries).astype(np.float64)):
        cosines = (query * unit_vectors(vectors).astype(np.float64)).sum(1).astype(np.float32)
        order = sorted(range(len(ids)), key=lambda one: (-cosines[one], ids[one]))[:count]
        found[place, : len(order)] = ids[order]
        similarity[place, : len(order)] = cosines[order]
    return found, similarity
