"""Near-duplicates: of rows that are almost the same, one label is enough."""

from __future__ import annotations

import numpy as np

#: Two rows are near-duplicates if they are closer than this share of the rows' mean distance from their centre.
ALIKE = 0.02


class Distinct:
    """Which rows may still be chosen: those that are no near-duplicate of a row chosen before.

    open: `[rows]` bool
    alike: how many rows were closed for being almost the same as a chosen one
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors.astype(np.float64)
        spread = np.sqrt(((self.vectors - self.vectors.mean(0)) ** 2).sum(1).mean()) if len(vectors) else 0.0
        self.reach = max(ALIKE * float(spread), 1e-9)
        self.open = np.ones(len(vectors), dtype=bool)
        self.alike = 0

    def choose(self, place: int) -> np.ndarray:
        """Close the row at `place` and its near-duplicates; the distance of every row from it, `[rows]`."""
        distance = np.sqrt(((self.vectors - self.vectors[place]) ** 2).sum(1))
        closed = self.open & (distance <= self.reach)
        self.alike += int(closed.sum()) - int(self.open[place])
        self.open &= ~closed
        self.open[place] = False
        return np.asarray(distance)

    def best(self, scores: np.ndarray, among: np.ndarray | None = None) -> int | None:
        """The open row (`among` some places) of the highest score, the first of equals; None if all are closed."""
        places = np.flatnonzero(self.open) if among is None else among[self.open[among]]
        return int(places[np.argmax(scores[places])]) if len(places) else None
