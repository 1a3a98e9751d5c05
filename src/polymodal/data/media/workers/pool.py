"""Decoding in separate processes. A crash or a hang costs one file, never the run."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakSet

import numpy as np

from polymodal.core.errors import MissingExtraError, PolymodalError
from polymodal.data.media.source import MediaError
from polymodal.data.media.workers.process import DecodeJob, WorkerLost, WorkerProcess, WorkerTimeout, total_bytes
from polymodal.data.media.workers.queue import DecodeQueue
from polymodal.recipe.data import LimitOptions

Result = dict[str, np.ndarray] | MediaError

# Default number of decoding processes of a pool: reading files is seldom fast enough for more.
_DEFAULT_WORKERS = 8
# Maximum seconds for the start of a process.
START_SECONDS = 120.0
# A process stops itself when a file takes too long. If it has not after this many more seconds, it is killed.
_GRACE = 5.0


class DecodePool:
    """Processes that decode media under `limits`.

    They start while files wait, at most one per file, and stay for the next `map`. There are up to `limits.num_workers`
    of them (default 8), and never more than CPU cores.
    """

    def __init__(self, limits: LimitOptions) -> None:
        self.limits = limits
        self._reset()
        _all_pools.add(self)

    def _reset(self) -> None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[WorkerProcess] = []
        self._alive: set[WorkerProcess] = set()
        self.count = min(processors, self.limits.num_workers or _DEFAULT_WORKERS)

    def map(self, jobs: Iterable[tuple[bytes, Any]], *, single: bool = False) -> Iterator[Result]:
        """The decoded item of each job `(encoded bytes, request)`, in order; a `MediaError` for a file that cannot be
        used.

        Jobs are drawn lazily. Everything that is drawn, being decoded, or decoded and not yet returned stays below 256
        MiB, unless the next result is larger on its own. An item is a dict of arrays, one for each field of the
        request's `layout`, or an empty dict if the file has no such media.

        single: use one process, for short work

        A decoder that takes longer than `limits.timeout_seconds` is stopped and its file refused. A process that dies
        is replaced. The file that it was decoding is tried once more, since the cause may be external, and refused if
        it crashes again.

        Raises:
            MissingExtraError: a package that the decoder needs is not installed.
            PolymodalError: no decoding process can be started.
            RuntimeError: a decoder returns other arrays than those in its `layout`.
        """
        owner = os.getpid()
        run = DecodeQueue(1 if single else self.count)
        threads: list[threading.Thread] = []
        source = enumerate(jobs)
        try:
            while True:
                while run.needs_input():
                    try:
                        index, (data, request) = next(source)
                    except StopIteration:
                        run.close_input()
                    else:
                        run.put(DecodeJob(index, data, request))
                while run.add_thread():
                    threads.append(threading.Thread(target=self._serve, args=(run,), daemon=True))
                    threads[-1].start()
                if run.is_complete():
                    return
                if run.wait():
                    yield run.take()
                    if os.getpid() != owner:
                        raise RuntimeError(
                            "a map over decoded media cannot continue in a forked process; start another map"
                        )
        finally:
            if os.getpid() == owner:
                run.close()
                for thread in threads:
                    thread.join()

    def pids(self) -> list[int]:
        """The process ids of the running decoding processes."""
        with self._lock:
            return sorted(worker.pid for worker in self._alive)

    def close(self) -> None:
        """Stop the idle processes. The pool can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            self._stop(worker)

    def _serve(self, run: DecodeQueue) -> None:
        """A thread of one map: sends batches of files to one process, and starts another process if that is lost."""
        worker: WorkerProcess | None = None
        try:
            while (batch := run.next_batch()) is not None:
                while batch and not run.closed:
                    worker = worker or self._process()
                    run.register_worker(worker)
                    healthy = self._decode(run, batch, worker)
                    run.unregister_worker(worker)
                    if not healthy:
                        self._stop(worker)
                        worker = None
        except Exception as error:  # noqa: BLE001  # raised again in the thread that draws the results
            run.fail(error)
            if worker is not None:
                self._stop(worker)
                worker = None
        if worker is not None:
            with self._lock:
                self._idle.append(worker)

    def _decode(self, run: DecodeQueue, batch: list[DecodeJob], worker: WorkerProcess) -> bool:
        """Decode the files of `batch` and remove the finished ones; False if the process must be replaced."""
        sent = tuple(batch)
        try:
            worker.send_batch(sent, self.limits.timeout_seconds + _GRACE if worker.started else START_SECONDS)
            return self._fetch(run, batch, worker)
        except (WorkerLost, WorkerTimeout) as end:
            if run.closed:
                return False
            if isinstance(end, WorkerLost):
                worker.wait_exit()
            self._stop(worker)
            if not worker.started:
                raise PolymodalError(
                    f"a decoding process does not start (exit code {worker.exit_code}); is data.limits.memory_mib "
                    f"({self.limits.memory_mib} MiB) too small?"
                ) from end
            for item in sent[max(0, worker.num_begun() - 1) : worker.num_begun()]:  # the file that it was decoding
                if worker.timed_out or isinstance(end, WorkerTimeout):
                    reason = f"decoding took longer than {self.limits.timeout_seconds:g} s"
                elif run.record_crash(item):
                    reason = "the decoder crashed on this file"
                else:
                    continue
                batch.remove(item)
                run.deliver([(item, MediaError(reason), None)])
            return False

    def _fetch(self, run: DecodeQueue, batch: list[DecodeJob], worker: WorkerProcess) -> bool:
        """Deliver the answers to `batch` as they arrive; False if the process asks to be recycled."""
        done: list[tuple[DecodeJob, Result, Any]] = []
        answer: dict[str, Any] = {}
        try:
            while batch:
                item, deadline = batch[0], time.monotonic() + self.limits.timeout_seconds + _GRACE
                answer = worker.read_answer(deadline)
                result: Result
                if "fields" in answer:
                    shapes = worker.check_shapes(answer, item.request)
                    size = total_bytes(shapes)
                    if not run.has_room(size):
                        done = run.deliver(done)
                        run.wait_for_room(item, size)
                        deadline = time.monotonic() + self.limits.timeout_seconds
                    result = worker.read_arrays(shapes, deadline)
                elif "reason" in answer:
                    result = MediaError(answer["reason"])
                elif "missing_package" in answer:
                    raise MissingExtraError.__new__(
                        MissingExtraError, answer["missing_package"]
                    )  # already a complete message
                elif "layout_error" in answer:
                    raise RuntimeError(answer["layout_error"])
                else:
                    raise WorkerLost
                done.append((item, result, answer.get("seconds")))
                del batch[0]
                if not worker.has_buffered():
                    done = run.deliver(done)
        finally:
            run.deliver(done)
        return not answer.get("recycle")

    def _process(self) -> WorkerProcess:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        worker = WorkerProcess(self.limits)
        with self._lock:
            self._alive.add(worker)
        return worker

    def _stop(self, worker: WorkerProcess) -> None:
        worker.stop()
        with self._lock:
            self._alive.discard(worker)

    def _forget(self) -> None:
        """In a forked process: detach from the decoding processes of the parent."""
        for worker in self._alive:
            worker.detach()
        self._reset()


_pools: dict[str, DecodePool] = {}
_all_pools: WeakSet[DecodePool] = WeakSet()


def decoding_pool(limits: LimitOptions) -> DecodePool:
    """The pool of this process for `limits`. Its processes start when they are first needed."""
    name = limits.model_dump_json()
    if name not in _pools:
        for other in list(_pools.values()):
            other.close()  # limits seldom change, so idle processes with other limits are not needed
        _pools[name] = DecodePool(limits)
    return _pools[name]


@atexit.register
def _close() -> None:
    for pool in list(_all_pools):
        pool.close()


def _forget() -> None:
    for pool in list(_all_pools):
        pool._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
