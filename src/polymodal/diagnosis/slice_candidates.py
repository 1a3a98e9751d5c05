"""Candidates for slices: rows with a common value, range or missing cell of a column, or of one cluster."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

#: Ranges of a column of numbers, and of the words of a column of texts.
RANGES = 4
#: Values of a column of categories: the most frequent.
MAX_VALUES = 30
#: A text column with at most this many distinct cells is a column of categories.
MAX_CATEGORIES = 100


@dataclass(frozen=True)
class SliceCandidate:
    """Rows that may be a slice.

    name: such as `maker is 'acme'`
    rows: `[rows]` bool
    """

    name: str
    rows: np.ndarray


def column_candidates(column: str, cells: Sequence[Any]) -> Iterator[SliceCandidate]:
    """The candidates of the cells `[rows]` of a column. Media and nested cells have only that of missing cells."""
    missing = np.array([_is_missing(cell) for cell in cells], dtype=bool)
    known = [cell for cell, gone in zip(cells, missing, strict=True) if not gone]
    yield SliceCandidate(f"{column} is missing", missing)
    if known and all(isinstance(cell, bool | np.bool_ | str) or _is_whole(cell) for cell in known):
        texts = np.array(["" if gone else str(cell) for cell, gone in zip(cells, missing, strict=True)], dtype=object)
        counts = Counter(texts[~missing].tolist())
        if len(counts) <= MAX_CATEGORIES and 2 * len(counts) <= len(known):
            for value, _ in counts.most_common(MAX_VALUES):
                yield SliceCandidate(f"{column} is {value[:60]!r}", (texts == value) & ~missing)
            return
    if known and all(isinstance(cell, str) for cell in known):
        words = np.array([np.nan if gone else len(cell.split()) for cell, gone in zip(cells, missing, strict=True)])
        if np.nanmax(words) > 1:
            yield from _ranges(f"words of {column}", words)
    elif known and all(_is_number(cell) for cell in known):
        numbers = [np.nan if gone else float(cell) for cell, gone in zip(cells, missing, strict=True)]
        yield from _ranges(column, np.array(numbers))


def cluster_candidates(vectors: np.ndarray, clusters: int, seed: int) -> Iterator[SliceCandidate]:
    """The candidates of clusters of embeddings `[rows, dim]` (k-means: Lloyd, 1982)."""
    from sklearn.cluster import KMeans  # slow to import

    found = KMeans(min(clusters, len(vectors)), n_init=2, random_state=seed).fit_predict(vectors.astype(np.float64))
    for number in range(found.max(initial=-1) + 1):
        yield SliceCandidate(f"cluster {number} of the embedding", found == number)


def _ranges(name: str, numbers: np.ndarray) -> Iterator[SliceCandidate]:
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, RANGES + 1)))
    for at, (low, high) in enumerate(pairwise(edges)):
        last = at == len(edges) - 2
        inside = (numbers >= low) & ((numbers <= high) if last else (numbers < high))
        yield SliceCandidate(f"{name} from {low:.4g} to {high:.4g}", inside)


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and cell != cell)


def _is_whole(cell: Any) -> bool:
    return isinstance(cell, int | np.integer) and not isinstance(cell, bool)


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | np.integer | np.floating) and not isinstance(cell, datetime.timedelta)
