"""Batches of row numbers: shuffled for training, ordered for evaluation."""

from __future__ import annotations

import numpy as np

_WINDOW = 50  # batches that are sorted by length together; more pads less and shuffles less


class BatchSampler:
    """Training batches; each epoch has every row exactly once and depends on nothing but `seed` and its
    number.

    rows: `[n]` row numbers
    batch: rows in a batch
    group: `[n]`, the item that the expensive input of each row has (-1: none). Rows that share an item stay
        in one batch, so that it is encoded once; a batch then has up to `batch` rows, and an item with more
        is cut.
    lengths: `[n]`, the length of each row; rows of similar length share a batch, so that little is padded.
        Unused when `group` is given.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch: int,
        seed: int,
        group: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
    ) -> None:
        self.rows, self.batch, self.seed = np.asarray(rows, dtype=np.int64), batch, seed
        self.group = _apart(group) if group is not None else None
        self.lengths = lengths

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of epoch `number`, each `[up to batch]` row numbers."""
        generator = np.random.default_rng([self.seed, number])
        if self.group is not None:
            batches = self._by_group(self.group, generator)
        elif self.lengths is not None:
            batches = self._by_length(self.lengths, generator)
        else:
            batches = _cut(generator.permutation(len(self.rows)), self.batch)
        return [self.rows[places] for places in batches]

    def _by_group(self, group: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        count = int(group.max(initial=-1)) + 1
        turn = generator.permutation(count)
        order = generator.permutation(len(group))
        order = order[np.argsort(turn[group[order]], kind="stable")]
        sizes = np.bincount(turn[group], minlength=count)
        return _pack(order, sizes, self.batch)

    def _by_length(self, lengths: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        windows = _cut(generator.permutation(len(self.rows)), self.batch * _WINDOW)
        batches = [
            places
            for window in windows
            for places in _cut(window[np.argsort(lengths[window], kind="stable")], self.batch)
        ]
        return [batches[place] for place in generator.permutation(len(batches))]


def sequential(
    rows: np.ndarray, batch: int, group: np.ndarray | None = None, lengths: np.ndarray | None = None
) -> list[np.ndarray]:
    """Every row once for evaluation, ordered by length and then by item (`group`), as far as they are given;
    the caller puts results back in order."""
    keys = [key for key in (group, lengths) if key is not None]
    order = np.lexsort(keys) if keys else np.arange(len(rows))
    return _cut(np.asarray(rows, dtype=np.int64)[order], batch)


def _cut(places: np.ndarray, size: int) -> list[np.ndarray]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def _apart(group: np.ndarray) -> np.ndarray:
    """Groups as 0, 1, 2 ...; every -1 becomes a group of its own."""
    lone = np.flatnonzero(group < 0)
    apart = np.array(group, dtype=np.int64)
    apart[lone] = group.max(initial=-1) + 1 + np.arange(len(lone))
    return np.unique(apart, return_inverse=True)[1]


def _pack(order: np.ndarray, sizes: np.ndarray, batch: int) -> list[np.ndarray]:
    """Cut `order`, which has whole groups of `sizes` end to end, into batches of at most `batch`. A new batch
    begins where the next group would not fit; a group larger than a batch is cut."""
    cuts, start, end = [0], 0, 0
    for size in sizes.tolist():
        if end + size - start > batch and end > start:
            cuts.append(end)
            start = end
        end += size
        while end - start > batch:
            start += batch
            cuts.append(start)
    return [order[one:other] for one, other in zip(cuts, [*cuts[1:], len(order)], strict=True) if other > one]
