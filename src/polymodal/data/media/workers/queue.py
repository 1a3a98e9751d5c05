"""Work queue of one map over media, shared by its threads."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np

from polymodal.data.media.source import MediaError
from polymodal.data.media.workers.process import DecodeJob, WorkerProcess

Result = dict[str, np.ndarray] | MediaError

# Maximum bytes of files and results that a map holds at a time.
MAX_HELD_BYTES = 256 * 2**20
# A batch is sent to a process in one message. It has about this many seconds of work, and at most this many files or
# bytes.
BATCH_SECONDS = 0.05
BATCH_FILES = 128
BATCH_BYTES = 2 * 2**20


class DecodeQueue:
    """The state of one map. The consumer thread adds files and takes results, in order. Each worker thread takes
    batches of files for its process and delivers the results.

    count: maximum number of worker threads
    """

    def __init__(self, count: int) -> None:
        self._count = count
        lock = threading.Lock()
        self._work, self._ready, self._room = (threading.Condition(lock) for _ in range(3))
        self._waiting: deque[DecodeJob] = deque()
        self._results: dict[int, Result] = {}
        self._drawn = self._taken = self._held = self._num_threads = 0
        self._seconds_per_file: float | None = None  # running mean
        self._finished = self.closed = False
        self._error: Exception | None = None
        self._crashed: set[int] = set()
        self._workers: set[WorkerProcess] = set()

    # for the consumer thread

    def needs_input(self) -> bool:
        """Whether another file should be added."""
        enough = 2 * self._count * self._batch_size()
        return not self._finished and self._held < MAX_HELD_BYTES and len(self._waiting) < enough

    def put(self, item: DecodeJob) -> None:
        with self._work:
            self._waiting.append(item)
            self._drawn += 1
            self._held += len(item.data)
            self._work.notify()

    def close_input(self) -> None:
        """Signal that there are no more files."""
        self._finished = True

    def is_complete(self) -> bool:
        return self._finished and self._taken == self._drawn

    def add_thread(self) -> bool:
        """Whether another worker thread should start. If so, it is counted immediately."""
        if self._num_threads >= self._count:
            return False
        with self._work:
            more = self._num_threads < min(self._count, self._drawn - self._taken) and bool(self._waiting)
            self._num_threads += more
            return more

    def wait(self) -> bool:
        """Wait until the next result is ready (True) or something else has to be done (False).

        Raises:
            Exception: the error that ended another thread.
        """
        with self._ready:
            if self._taken not in self._results and self._error is None and not self.needs_input():
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
        """End the map, even if results are left. Processes that still decode for it are killed."""
        with self._work:
            self.closed = True
            for worker in self._workers:
                worker.kill()
            self._work.notify_all()
            self._room.notify_all()

    # for the worker threads

    def next_batch(self) -> list[DecodeJob] | None:
        """Wait for files; None if this thread is no longer needed."""
        with self._work:
            while not self._waiting:
                if self.closed:
                    return None
                self._ready.notify()
                self._work.wait()
            if self.closed:
                return None
            limit = min(self._batch_size(), max(1, len(self._waiting) // self._count))
            batch = [self._waiting.popleft()]
            size = len(batch[0].data)
            while self._waiting and len(batch) < limit and size + len(self._waiting[0].data) <= BATCH_BYTES:
                batch.append(self._waiting.popleft())
                size += len(batch[-1].data)
            if self.needs_input():
                self._ready.notify()
            return batch

    def register_worker(self, worker: WorkerProcess) -> None:
        """Register `worker` as working for this map: it is killed if the map is closed."""
        with self._work:
            self._workers.add(worker)
            if self.closed:
                worker.kill()

    def unregister_worker(self, worker: WorkerProcess) -> None:
        with self._work:
            self._workers.discard(worker)

    def has_room(self, size: int) -> bool:
        """Whether `size` more bytes may be held."""
        return self._held + size <= MAX_HELD_BYTES

    def wait_for_room(self, item: DecodeJob, size: int) -> None:
        """Wait until `size` more bytes may be held, or until `item` is the next to be taken, which never waits."""
        with self._room:
            while self._held + size > MAX_HELD_BYTES and item.index != self._taken and not self.closed:
                self._room.wait()

    def deliver(self, done: list[tuple[DecodeJob, Result, Any]]) -> list[tuple[DecodeJob, Result, Any]]:
        """Deliver results of files, with the seconds that each took. Returns an empty list for the next results."""
        with self._ready:
            for item, result, seconds in done:
                self._results[item.index] = result
                self._held += _size(result) - len(item.data)
                if isinstance(seconds, float):
                    self._seconds_per_file = (
                        seconds if self._seconds_per_file is None else 0.9 * self._seconds_per_file + 0.1 * seconds
                    )
            if self._taken in self._results:
                self._ready.notify()
        return []

    def record_crash(self, item: DecodeJob) -> bool:
        """Record that a process crashed on `item`. Returns whether one had crashed on it before."""
        with self._work:
            before = item.index in self._crashed
            self._crashed.add(item.index)
            return before

    def fail(self, error: Exception) -> None:
        with self._ready:
            self._error = self._error or error
            self._ready.notify()

    def _batch_size(self) -> int:
        """Files per batch, from the recent decoding times."""
        if self._seconds_per_file is None:
            return 1
        return int(min(BATCH_FILES, max(1, BATCH_SECONDS / max(self._seconds_per_file, 1e-6))))


def _size(result: Result) -> int:
    return 0 if isinstance(result, MediaError) else sum(array.nbytes for array in result.values())
