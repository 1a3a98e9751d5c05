"""Skip near-duplicates: rows that are almost the same need only one label."""

from __future__ import annotations

import numpy as np

#: Two rows are near-duplicates if their distance is below this fraction of the root mean square distance of the rows
#: from their mean.
DUPLICATE_RADIUS = 0.02


class DuplicateFilter:
    """Tracks the rows that can still be chosen: rows that are not chosen yet and not near-duplicates of a chosen row.

    features: `[rows, width]` float64
    is_open: `[rows]` bool, True for rows that can still be chosen
    num_duplicates: number of rows that were closed because they are near-duplicates of a chosen row
    """

    def __init__(self, features: np.ndarray) -> None:
        self.features = features.astype(np.float64)
        spread = np.sqrt(((self.features - self.features.mean(0)) ** 2).sum(1).mean()) if len(features) else 0.0
        self.radius = max(DUPLICATE_RADIUS * float(spread), 1e-9)
        self.is_open = np.ones(len(features), dtype=bool)
        self.num_duplicates = 0

    def choose(self, index: int) -> np.ndarray:
        """Close row `index` and its near-duplicates. Returns the distance of every row to it, `[rows]`."""
        distance = np.sqrt(((self.features - self.features[index]) ** 2).sum(1))
        closed = self.is_open & (distance <= self.radius)
        self.num_duplicates += int(closed.sum()) - int(self.is_open[index])
        self.is_open &= ~closed
        self.is_open[index] = False
        return np.asarray(distance)

    def best_open(self, scores: np.ndarray, among: np.ndarray | None = None) -> int | None:
        """The open row with the highest score, the first one on ties; None if no row is open.

        among: `[n]`, indices to choose from; default: all rows
        """
        candidates = np.flatnonzero(self.is_open) if among is None else among[self.is_open[among]]
        return int(candidates[np.argmax(scores[candidates])]) if len(candidates) else None
