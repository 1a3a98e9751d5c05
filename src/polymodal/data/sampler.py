"""Batches of row numbers: shuffled for training, ordered for evaluation."""

from __future__ import annotations

import numpy as np

_WINDOW = 50  # batches that are sorted by length together; more pads less and shuffles less


class BatchSampler:
    """Training batches; an epoch depends on nothing but `seed` and its number, and has every row exactly once.

    With several data sets and a temperature T above 1, an epoch has as many rows, of which data set d has a share

        p_d = n_d^(1/T) / sum_e n_e^(1/T)

    of its n_d rows (Devlin, "Multilingual BERT", 2018; Raffel et al., "Exploring the Limits of Transfer Learning with
    a Unified Text-to-Text Transformer", 2020; Xue et al., "mT5", 2021). Rows of a small set come several times then,
    as often as each other or once more; of a large one some stay out, and are next in the epochs that follow.

    rows: `[n]` row numbers
    batch: rows in a batch
    group: `[n]`, the item that the expensive input of each row has (-1: none). Rows that share an item stay
        in one batch, so that it is encoded once; a batch then has up to `batch` rows, and an item with more
        is cut. A row that comes twice comes in two batches, as far as there are others between.
    piece: so many rows of a group stay together, others in each epoch; silent: all of them
    lengths: `[n]`, the length of each row; rows of similar length share a batch, so that little is padded.
        Unused when `group` is given.
    data_set: `[n]`, the number of the data set that each row is of
    temperature: T, 1 or more; 1 takes the data sets as they are
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch: int,
        seed: int,
        group: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        piece: int | None = None,
        data_set: np.ndarray | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.rows, self.batch, self.seed = np.asarray(rows, dtype=np.int64), batch, seed
        self.group = _apart(group) if group is not None else None
        self.lengths, self.piece = lengths, piece
        mixed = data_set is not None and temperature > 1 and len(np.unique(data_set)) > 1
        self.mixture = _Mixture(data_set, temperature, seed, self.group) if mixed and data_set is not None else None

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of epoch `number`, each `[up to batch]` row numbers."""
        generator = np.random.default_rng([self.seed, number])
        places, turn = np.arange(len(self.rows)), np.zeros(len(self.rows), dtype=np.int64)
        if self.mixture is not None:
            places, turn = self.mixture.epoch(number)
        if self.group is not None:
            count = int(self.group.max(initial=-1)) + 1
            batches = self._by_group(self.group[places] + count * turn, generator)
        elif self.lengths is not None:
            batches = self._by_length(self.lengths[places], generator)
        else:
            batches = _cut(generator.permutation(len(places)), self.batch)
        return [self.rows[places[one]] for one in batches]

    def _by_group(self, group: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        if self.piece is not None:
            group = _pieces(group, self.piece, generator)
        count = int(group.max(initial=-1)) + 1
        turn = generator.permutation(count)
        order = generator.permutation(len(group))
        order = order[np.argsort(turn[group[order]], kind="stable")]
        sizes = np.bincount(turn[group], minlength=count)
        return _pack(order, sizes, self.batch)

    def _by_length(self, lengths: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        windows = _cut(generator.permutation(len(lengths)), self.batch * _WINDOW)
        batches = [
            places
            for window in windows
            for places in _cut(window[np.argsort(lengths[window], kind="stable")], self.batch)
        ]
        return [batches[place] for place in generator.permutation(len(batches))]


class _Mixture:
    """Which rows each epoch has. Every data set is a ring, its rows in random order with those of one group side by
    side, and an epoch takes the next stretch of each ring: a row is never seen twice more than another of its set."""

    def __init__(self, data_set: np.ndarray, temperature: float, seed: int, group: np.ndarray | None) -> None:
        generator = np.random.default_rng(seed)
        self.rings: list[np.ndarray] = []
        for number in np.unique(data_set):
            ring = generator.permutation(np.flatnonzero(data_set == number))
            if group is not None:
                turn = generator.permutation(int(group.max()) + 1)
                ring = ring[np.argsort(turn[group[ring]], kind="stable")]
            self.rings.append(ring)
        self.counts = mixed_counts(np.array([len(ring) for ring in self.rings]), temperature)

    def epoch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The places of the rows of an epoch, and whether each comes for the first time (0), the second (1) ..."""
        steps = [np.arange(count) for count in self.counts]
        places = [
            ring[(number * count + step) % len(ring)]
            for ring, count, step in zip(self.rings, self.counts.tolist(), steps, strict=True)
        ]
        turns = [step // len(ring) for ring, step in zip(self.rings, steps, strict=True)]
        return np.concatenate(places), np.concatenate(turns)


def mixed_counts(sizes: np.ndarray, temperature: float) -> np.ndarray:
    """How many of the rows of an epoch each data set has, `[sets]`: in proportion to `sizes^(1/temperature)`, as whole
    numbers that come to the sum of `sizes` (the largest remainders are rounded up)."""
    # relative to the largest, so that nothing overflows
    share = (sizes / sizes.max()) ** (1 / temperature)
    exact = sizes.sum() * share / share.sum()
    counts = np.floor(exact).astype(np.int64)
    lacking = int(sizes.sum() - counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:lacking]] += 1
    return counts


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


def _pieces(group: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    """Groups `[n]` cut at random into pieces of up to `most` rows, as 0, 1, 2 ..."""
    order = generator.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]
    first = np.searchsorted(group[order], group[order])
    place = np.arange(len(group)) - first
    piece = np.empty(len(group), dtype=np.int64)
    piece[order] = np.cumsum(place % most == 0) - 1
    return piece


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
