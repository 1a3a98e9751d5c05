"""Batches of rows that are read in row groups: a batch needs only the groups that are open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from polymodal.data.sampler import BatchSampler


def _ignore(groups: Sequence[int]) -> None:
    """Read nothing in advance."""


@dataclass(frozen=True)
class RowGroups:
    """The row groups of a table whose rows are read when they are needed.

    starts: `[groups + 1]`, the first row of each group, then the number of rows
    open_groups: the groups that are open at once
    expect: called with the groups that will be needed next
    """

    starts: np.ndarray
    open_groups: int
    expect: Callable[[Sequence[int]], None] = _ignore

    def group_of(self, rows: np.ndarray) -> np.ndarray:
        """The group of each row `[n]`."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def windows(self, rows: np.ndarray) -> list[np.ndarray]:
        """The positions in `rows` of the rows of each `open_groups` consecutive groups; windows without rows are left
        out."""
        window = self.group_of(rows) // self.open_groups
        order = np.argsort(window, kind="stable")
        return [part for part in np.split(order, np.flatnonzero(np.diff(window[order])) + 1) if len(part)]


@dataclass(frozen=True)
class RowKeys:
    """What decides which rows share a batch, see `BatchSampler`: `group [n]` and `lengths [n]`, or None."""

    group: np.ndarray | None = None
    lengths: np.ndarray | None = None
    rows_per_group: int | None = None


class GroupSampler:
    """Training batches of rows in row groups. An epoch is a function of `seed` and the epoch number, and has every row
    exactly once.

    An epoch shuffles the row groups. A window of `groups.open_groups` groups is open, and the rows of a batch are drawn
    at random from the rows of the window, as a `BatchSampler` of these rows draws them. The next window follows when
    all rows of this one were drawn. So a batch is found again from (epoch, number of the batch) alone.

    rows: `[n]` row numbers
    keys: by which rows share a batch
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int, groups: RowGroups, keys: RowKeys) -> None:
        self.rows, self.batch_size, self.seed = np.asarray(rows, dtype=np.int64), batch_size, seed
        self.groups, self.keys = groups, keys
        group = groups.group_of(self.rows)
        self._order = np.argsort(group, kind="stable")
        self._used, first = np.unique(group[self._order], return_index=True)
        self._bounds = np.append(first, len(group))

    def epoch(self, number: int) -> WindowBatches:
        """The batches of epoch `number`, each `[up to batch_size]` row numbers."""
        drawn = np.random.default_rng([self.seed, number]).permutation(len(self._used))
        size = self.groups.open_groups
        return WindowBatches(self, number, [drawn[start : start + size] for start in range(0, len(drawn), size)])

    def groups_of(self, window: np.ndarray) -> list[int]:
        """The row groups of a window, which holds positions among the groups that have rows."""
        found: list[int] = self._used[window].tolist()
        return found

    def window_sampler(self, window: np.ndarray, seed: int) -> BatchSampler:
        """The sampler of the rows of a window."""
        here = np.concatenate([self._order[self._bounds[one] : self._bounds[one + 1]] for one in np.sort(window)])
        keys = self.keys
        return BatchSampler(
            self.rows[here],
            self.batch_size,
            seed,
            group=None if keys.group is None else keys.group[here],
            lengths=None if keys.lengths is None else keys.lengths[here],
            rows_per_group=keys.rows_per_group,
        )

    def count_rows(self, window: np.ndarray) -> int:
        """The number of rows of a window."""
        return int((self._bounds[window + 1] - self._bounds[window]).sum())


class WindowBatches(Sequence[np.ndarray]):
    """The batches of an epoch of a `GroupSampler`. Those of one window are computed at a time."""

    def __init__(self, sampler: GroupSampler, epoch: int, windows: list[np.ndarray]) -> None:
        self._sampler, self._epoch, self._windows = sampler, epoch, windows
        self._open: tuple[int, list[np.ndarray]] = (-1, [])
        counts = [self._count(number) for number in range(len(windows))]
        self._first = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._first[-1])

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        if self._open[0] != number:
            self._open = (number, self._batches(number))
            following = self._windows[number : number + 2]
            self._sampler.groups.expect([group for one in following for group in self._sampler.groups_of(one)])
        return self._open[1][index - self._first[number]]

    def _batches(self, number: int) -> list[np.ndarray]:
        seed = int(np.random.default_rng([self._sampler.seed, self._epoch, number]).integers(2**62))
        return self._sampler.window_sampler(self._windows[number], seed).epoch(0)

    def _count(self, number: int) -> int:
        if self._sampler.keys.group is not None:  # batches of whole groups are not equally large
            return len(self._batches(number))
        return -(-self._sampler.count_rows(self._windows[number]) // self._sampler.batch_size)
