"""The number of threads, measured during the work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from polymodal.runtime.thread_limit import allowed_threads, max_threads


class ThreadTuner:
    """Runs similar batches with one thread or with all threads: first alternately, then with the faster number.

    On an idle machine all threads are faster. If other programs use the processors, threads that wait for each other
    can be many times slower than one.

    threads: a fixed number; None to measure. `OMP_NUM_THREADS` limits both.
    """

    #: Batches of the trial; the first is a warm-up and does not count.
    TRIAL_BATCHES = 5

    def __init__(self, threads: int | None = None) -> None:
        self.choices = [allowed_threads(threads)] if threads is not None else sorted({1, max_threads()})
        self._spent = {choice: [0.0, 0] for choice in self.choices}
        self._done = 0

    @contextmanager
    def batch(self, items: int) -> Iterator[None]:
        """Run the work in the block, a batch of `items` items, with the current number of threads."""
        threads = self._turn()
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        begun = time.perf_counter()
        try:
            yield
        finally:
            torch.set_num_threads(before)
        if 0 < self._done < self.TRIAL_BATCHES:
            self._spent[threads][0] += time.perf_counter() - begun
            self._spent[threads][1] += items
        self._done += 1

    def _turn(self) -> int:
        if self._done < self.TRIAL_BATCHES:
            return self.choices[self._done % len(self.choices)]
        return min(self.choices, key=lambda choice: self._spent[choice][0] / max(1, self._spent[choice][1]))
