"""Batches of row numbers: shuffled for training, ordered for evaluation."""

from __future__ import annotations

import numpy as np

_WINDOW = 50  # batches that are sorted by length together; a larger window pads less and shuffles less


class BatchSampler:
    """Training batches. An epoch is a function of `seed` and the epoch number, and has every row exactly once.

    With several data sets and a temperature T above 1, an epoch has the same total number of rows. The fraction of data
    set d with n_d rows is

        p_d = n_d^(1/T) / sum_e n_e^(1/T)

    (Devlin, "Multilingual BERT", 2018; Raffel et al., "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", 2020; Xue et al., "mT5", 2021). Rows of a small set are then repeated, each equally often
    or once more. Rows of a large set that an epoch leaves out come first in the following epochs.

    rows: `[n]` row numbers
    batch_size: rows in a batch
    group: `[n]`, the item that the expensive input of each row has (-1: none). Rows that share an item stay in one
        batch, so that it is encoded once. A batch then has up to `batch_size` rows, and a larger group is divided. A
        repeated row is put into different batches where possible.
    rows_per_group: this many rows of a group stay together, other rows in each epoch. Default: all of them
    lengths: `[n]`, the length of each row. Rows of similar length share a batch, which reduces padding. Unused when
        `group` is given.
    data_set: `[n]`, the number of the data set of each row
    temperature: T, at least 1. At 1 the data sets keep their sizes.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        group: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        rows_per_group: int | None = None,
        data_set: np.ndarray | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.rows, self.batch_size, self.seed = np.asarray(rows, dtype=np.int64), batch_size, seed
        self.group = _number_groups(group) if group is not None else None
        self.lengths, self.rows_per_group = lengths, rows_per_group
        mixed = data_set is not None and temperature > 1 and len(np.unique(data_set)) > 1
        self.mixture = (
            _TemperatureMixture(data_set, temperature, seed, self.group) if mixed and data_set is not None else None
        )

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of epoch `number`, each `[up to batch_size]` row numbers."""
        generator = np.random.default_rng([self.seed, number])
        positions, turn = np.arange(len(self.rows)), np.zeros(len(self.rows), dtype=np.int64)
        if self.mixture is not None:
            positions, turn = self.mixture.epoch(number)
        if self.group is not None:
            count = int(self.group.max(initial=-1)) + 1
            batches = self._by_group(self.group[positions] + count * turn, generator)
        elif self.lengths is not None:
            batches = self._by_length(self.lengths[positions], generator)
        else:
            batches = _cut(generator.permutation(len(positions)), self.batch_size)
        return [self.rows[positions[one]] for one in batches]

    def _by_group(self, group: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        if self.rows_per_group is not None:
            group = _split_groups(group, self.rows_per_group, generator)
        count = int(group.max(initial=-1)) + 1
        turn = generator.permutation(count)
        order = generator.permutation(len(group))
        order = order[np.argsort(turn[group[order]], kind="stable")]
        sizes = np.bincount(turn[group], minlength=count)
        return _pack(order, sizes, self.batch_size)

    def _by_length(self, lengths: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        windows = _cut(generator.permutation(len(lengths)), self.batch_size * _WINDOW)
        batches = [
            positions
            for window in windows
            for positions in _cut(window[np.argsort(lengths[window], kind="stable")], self.batch_size)
        ]
        return [batches[position] for position in generator.permutation(len(batches))]


class _TemperatureMixture:
    """Selects the rows of each epoch. Each data set is a ring of its rows in random order, with the rows of a group
    next to each other. An epoch takes the next segment of each ring, so the counts of two rows of a data set differ
    by at most one."""

    def __init__(self, data_set: np.ndarray, temperature: float, seed: int, group: np.ndarray | None) -> None:
        generator = np.random.default_rng(seed)
        self.rings: list[np.ndarray] = []
        for number in np.unique(data_set):
            ring = generator.permutation(np.flatnonzero(data_set == number))
            if group is not None:
                turn = generator.permutation(int(group.max()) + 1)
                ring = ring[np.argsort(turn[group[ring]], kind="stable")]
            self.rings.append(ring)
        self.counts = mixture_counts(np.array([len(ring) for ring in self.rings]), temperature)

    def epoch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The positions of the rows of an epoch, and for each whether it is the first occurrence (0), the second (1)
        ..."""
        steps = [np.arange(count) for count in self.counts]
        positions = [
            ring[(number * count + step) % len(ring)]
            for ring, count, step in zip(self.rings, self.counts.tolist(), steps, strict=True)
        ]
        turns = [step // len(ring) for ring, step in zip(self.rings, steps, strict=True)]
        return np.concatenate(positions), np.concatenate(turns)


def mixture_counts(sizes: np.ndarray, temperature: float) -> np.ndarray:
    """Number of rows that each data set has in an epoch, `[sets]`, in proportion to `sizes^(1/temperature)`. The
    counts are whole numbers with the sum of `sizes` (largest remainder method)."""
    # relative to the largest, to avoid overflow
    ratio = (sizes / sizes.max()) ** (1 / temperature)
    exact = sizes.sum() * ratio / ratio.sum()
    counts = np.floor(exact).astype(np.int64)
    lacking = int(sizes.sum() - counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:lacking]] += 1
    return counts


def sequential_batches(
    rows: np.ndarray, batch: int, group: np.ndarray | None = None, lengths: np.ndarray | None = None
) -> list[np.ndarray]:
    """Every row once for evaluation, ordered by length and then by item (`group`), if these are given. The caller
    restores the original order of the results."""
    keys = [key for key in (group, lengths) if key is not None]
    order = np.lexsort(keys) if keys else np.arange(len(rows))
    return _cut(np.asarray(rows, dtype=np.int64)[order], batch)


def divide_rows(rows: np.ndarray, group: np.ndarray | None, parts: int) -> list[np.ndarray]:
    """Divide the rows of a batch among `parts` processes. Rows of a group stay together, in their order, and the parts
    have about equally many rows. A part may be empty.

    group: `[n]`, the shared item of each row (-1: none); None divides row by row

    Example:
        >>> divide_rows(np.array([7, 8, 9, 10]), np.array([1, 2, 1, -1]), 2)
        [array([7, 9]), array([ 8, 10])]
    """
    if group is None:
        return [rows[part::parts] for part in range(parts)]
    number = _number_groups(group)
    sizes = np.bincount(number)
    part_of, filled = np.empty(len(sizes), dtype=np.int64), np.zeros(parts, dtype=np.int64)
    for one in np.argsort(-sizes, kind="stable"):
        part_of[one] = np.argmin(filled)
        filled[part_of[one]] += sizes[one]
    return [rows[part_of[number] == part] for part in range(parts)]


def _cut(positions: np.ndarray, size: int) -> list[np.ndarray]:
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def _number_groups(group: np.ndarray) -> np.ndarray:
    """Renumber groups as 0, 1, 2 ...; every -1 becomes a group of its own."""
    lone = np.flatnonzero(group < 0)
    apart = np.array(group, dtype=np.int64)
    apart[lone] = group.max(initial=-1) + 1 + np.arange(len(lone))
    return np.unique(apart, return_inverse=True)[1]


def _split_groups(group: np.ndarray, max_rows: int, generator: np.random.Generator) -> np.ndarray:
    """Divide groups `[n]` at random into groups of up to `max_rows` rows, numbered 0, 1, 2 ..."""
    order = generator.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]
    first = np.searchsorted(group[order], group[order])
    position = np.arange(len(group)) - first
    part = np.empty(len(group), dtype=np.int64)
    part[order] = np.cumsum(position % max_rows == 0) - 1
    return part


def _pack(order: np.ndarray, sizes: np.ndarray, batch: int) -> list[np.ndarray]:
    """Divide `order`, which lists whole groups of `sizes` rows one after another, into batches of at most `batch`
    rows. A new batch begins where the next group does not fit. A group larger than a batch is divided."""
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
