"""What one map over media has drawn, given out, decoded and handed over: the meeting place of its threads."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np

from polymodal.data.media.source import MediaError
from polymodal.data.media.workers.process import Item, WorkerProcess

Result = dict[str, np.ndarray] | MediaError

# Bytes of files and results that a map holds at a time.
HELD = 256 * 2**20
# A bunch goes to a process at once: about so much work, and never more than so many files or bytes.
BUNCH_SECONDS = 0.05
BUNCH_FILES = 128
BUNCH_BYTES = 2 * 2**20


class Schedule:
    """One map: the thread that draws results puts files in and takes results out, in order; each other thread fetches
    bunches of files for its process and delivers what becomes of them.

    count: threads that may have a process at a time
    """

    def __init__(self, count: int) -> None:
        self._count = count
        lock = threading.Lock()
        self._work, self._ready, self._room = (threading.Condition(lock) for _ in range(3))
        self._waiting: deque[Item] = deque()
        self._results: dict[int, Result] = {}
        self._drawn = self._taken = self._held = self._members = 0
        self._pace: float | None = None  # seconds that a file takes
        self._finished = self.closed = False
        self._error: Exception | None = None
        self._suspects: set[int] = set()
        self._watched: set[WorkerProcess] = set()

    # for the thread that draws results

    def wants_more(self) -> bool:
        """Whether another file shall be drawn."""
        enough = 2 * self._count * self._bunch()
        return not self._finished and self._held < HELD and len(self._waiting) < enough

    def put(self, item: Item) -> None:
        with self._work:
            self._waiting.append(item)
            self._drawn += 1
            self._held += len(item.data)
            self._work.notify()

    def finish(self) -> None:
        """There are no more files."""
        self._finished = True

    def complete(self) -> bool:
        return self._finished and self._taken == self._drawn

    def join(self) -> bool:
        """Whether another thread shall start; it is counted at once."""
        if self._members >= self._count:
            return False
        with self._work:
            more = self._members < min(self._count, self._drawn - self._taken) and bool(self._waiting)
            self._members += more
            return more

    def wait(self) -> bool:
        """Wait until the next result is there (True) or something else is to be done (False).

        Raises:
            Exception: whatever has ended another thread.
        """
        with self._ready:
            if self._taken not in self._results and self._error is None and not self.wants_more():
                self._ready.wait()
            if self._error is not None:
                raise self._error
            return self._taken in self._results

    def take(self) -> Result:
        """The next result."""
        with self._room:
            result = self._results.pop(self._taken)
            self._taken += 1
            self._held -= _size(result)
            self._room.notify_all()
            return result

    def close(self) -> None:
        """End the map, whether or not everything was taken; processes that still decode for it are stopped."""
        with self._work:
            self.closed = True
            for worker in self._watched:
                worker.kill()
            self._work.notify_all()
            self._room.notify_all()

    # for the threads that have a process

    def next_bunch(self) -> list[Item] | None:
        """Wait for files; None when this thread is not needed any longer."""
        with self._work:
            while not self._waiting:
                if self.closed:
                    return None
                self._ready.notify()
                self._work.wait()
            if self.closed:
                return None
            most = min(self._bunch(), max(1, len(self._waiting) // self._count))
            bunch = [self._waiting.popleft()]
            size = len(bunch[0].data)
            while self._waiting and len(bunch) < most and size + len(self._waiting[0].data) <= BUNCH_BYTES:
                bunch.append(self._waiting.popleft())
                size += len(bunch[-1].data)
            if self.wants_more():
                self._ready.notify()
            return bunch

    def watch(self, worker: WorkerProcess) -> None:
        """From now on the end of the map stops `worker`, since it works for it."""
        with self._work:
            self._watched.add(worker)
            if self.closed:
                worker.kill()

    def unwatch(self, worker: WorkerProcess) -> None:
        with self._work:
            self._watched.discard(worker)

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes more may be held."""
        return self._held + size <= HELD

    def make_room(self, item: Item, size: int) -> None:
        """Wait until they may, or `item` is the next to be taken, which never waits."""
        with self._room:
            while self._held + size > HELD and item.index != self._taken and not self.closed:
                self._room.wait()

    def deliver(self, done: list[tuple[Item, Result, Any]]) -> list[tuple[Item, Result, Any]]:
        """Hand over what has become of files, and the seconds that each took; gives a list for the next ones."""
        with self._ready:
            for item, result, seconds in done:
                self._results[item.index] = result
                self._held += _size(result) - len(item.data)
                if isinstance(seconds, float):
                    self._pace = seconds if self._pace is None else 0.9 * self._pace + 0.1 * seconds
            if self._taken in self._results:
                self._ready.notify()
        return []

    def suspects(self, item: Item) -> bool:
        """Note that a process has died of `item`; whether one had before."""
        with self._work:
            before = item.index in self._suspects
            self._suspects.add(item.index)
            return before

    def fail(self, error: Exception) -> None:
        with self._ready:
            self._error = self._error or error
            self._ready.notify()

    def _bunch(self) -> int:
        """Files that make up a bunch, from the time that the last ones took."""
        if self._pace is None:
            return 1
        return int(min(BUNCH_FILES, max(1, BUNCH_SECONDS / max(self._pace, 1e-6))))


def _size(result: Result) -> int:
    return 0 if isinstance(result, MediaError) else sum(array.nbytes for array in result.values())
