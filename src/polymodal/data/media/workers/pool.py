"""Decoding in processes that may crash or hang: each costs the one file at fault, never the run."""

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
from polymodal.data.media.workers.process import Item, WorkerLost, WorkerProcess, WorkerSlow, size_of
from polymodal.data.media.workers.queue import Schedule
from polymodal.recipe.data import LimitOptions

Result = dict[str, np.ndarray] | MediaError

# Decoding processes of one pool where `limits.workers` is silent: reading files seldom keeps pace with more.
_MOST = 8
# How long a process may take to start, in seconds.
START_SECONDS = 120.0
# A process stops itself when a file takes too long; it is stopped if it has not done so after so many seconds more.
_GRACE = 5.0


class DecodePool:
    """Processes that decode media under `limits`.

    They start while files wait, one for each file at most, and stay for the next `map`. There are up to
    `limits.workers` of them, or 8, and never more than processors.
    """

    def __init__(self, limits: LimitOptions) -> None:
        self.limits = limits
        self._renew()
        _every.add(self)

    def _renew(self) -> None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[WorkerProcess] = []
        self._alive: set[WorkerProcess] = set()
        self.count = min(processors, self.limits.num_workers or _MOST)

    def map(self, jobs: Iterable[tuple[bytes, Any]], *, single: bool = False) -> Iterator[Result]:
        """The decoded item of each job `(encoded bytes, request)`, in order; a `MediaError` for a file that cannot
        be used.

        Jobs are drawn as they are needed: what is drawn, being decoded, or decoded and not yet taken, is held below
        256 MiB, as far as the next result alone allows. An item is a dict of arrays, one for each field of the
        request's `layout`, or an empty one where the file holds no such media.

        single: one process, for work that is soon done.

        A decoder that takes longer than `limits.patience` is stopped and its file refused. A process that dies is
        replaced; the file that it was decoding is tried once more, since the death may have come from outside, and
        refused if it kills again.

        Raises:
            MissingExtraError: a package that the decoder needs is not installed.
            PolymodalError: no decoding process can be started.
            RuntimeError: a decoder gives other arrays than its `layout` says.
        """
        owner = os.getpid()
        run = Schedule(1 if single else self.count)
        threads: list[threading.Thread] = []
        source = enumerate(jobs)
        try:
            while True:
                while run.wants_more():
                    try:
                        index, (data, request) = next(source)
                    except StopIteration:
                        run.finish()
                    else:
                        run.put(Item(index, data, request))
                while run.join():
                    threads.append(threading.Thread(target=self._serve, args=(run,), daemon=True))
                    threads[-1].start()
                if run.complete():
                    return
                if run.wait():
                    yield run.take()
                    if os.getpid() != owner:
                        raise RuntimeError("a map over decoded media cannot go on in a forked process; start another")
        finally:
            if os.getpid() == owner:
                run.close()
                for thread in threads:
                    thread.join()

    def pids(self) -> list[int]:
        """The process numbers of the decoding processes that are there now."""
        with self._lock:
            return sorted(worker.pid for worker in self._alive)

    def close(self) -> None:
        """Stop the processes that wait for work. The pool can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            self._stop(worker)

    def _serve(self, run: Schedule) -> None:
        """A thread of one map: gives bunches of files to one process, and starts another when that is lost."""
        worker: WorkerProcess | None = None
        try:
            while (bunch := run.next_bunch()) is not None:
                while bunch and not run.closed:
                    worker = worker or self._process()
                    run.watch(worker)
                    sound = self._decode(run, bunch, worker)
                    run.unwatch(worker)
                    if not sound:
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

    def _decode(self, run: Schedule, bunch: list[Item], worker: WorkerProcess) -> bool:
        """Decode the files of `bunch` and take off those that are done; False when the process must be replaced."""
        sent = tuple(bunch)
        try:
            worker.begin(sent, self.limits.timeout_seconds + _GRACE if worker.proven else START_SECONDS)
            return self._fetch(run, bunch, worker)
        except (WorkerLost, WorkerSlow) as end:
            if run.closed:
                return False
            if isinstance(end, WorkerLost):
                worker.mourn()
            self._stop(worker)
            if not worker.proven:
                raise PolymodalError(
                    f"a decoding process does not start (code {worker.code}); is data.limits.memory "
                    f"({self.limits.memory_mib} MiB) too small?"
                ) from end
            for item in sent[max(0, worker.begun() - 1) : worker.begun()]:  # the one that it was decoding
                if worker.late or isinstance(end, WorkerSlow):
                    reason = f"decoding took longer than {self.limits.timeout_seconds:g} s"
                elif run.suspects(item):
                    reason = "the decoder stopped while reading it"
                else:
                    continue
                bunch.remove(item)
                run.deliver([(item, MediaError(reason), None)])
            return False

    def _fetch(self, run: Schedule, bunch: list[Item], worker: WorkerProcess) -> bool:
        """Hand over the answers to `bunch` as they come; False when the process is worn out."""
        done: list[tuple[Item, Result, Any]] = []
        answer: dict[str, Any] = {}
        try:
            while bunch:
                item, deadline = bunch[0], time.monotonic() + self.limits.timeout_seconds + _GRACE
                answer = worker.answer(deadline)
                result: Result
                if "fields" in answer:
                    shapes = worker.shapes(answer, item.request)
                    size = size_of(shapes)
                    if not run.has_room(size):
                        done = run.deliver(done)
                        run.make_room(item, size)
                        deadline = time.monotonic() + self.limits.timeout_seconds
                    result = worker.arrays(shapes, deadline)
                elif "reason" in answer:
                    result = MediaError(answer["reason"])
                elif "missing" in answer:
                    raise MissingExtraError.__new__(MissingExtraError, answer["missing"])  # a complete text already
                elif "broken" in answer:
                    raise RuntimeError(answer["broken"])
                else:
                    raise WorkerLost
                done.append((item, result, answer.get("seconds")))
                del bunch[0]
                if not worker.more():
                    done = run.deliver(done)
        finally:
            run.deliver(done)
        return not answer.get("tired")

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
        """In a forked process: leave the processes to the one that started them."""
        for worker in self._alive:
            worker.abandon()
        self._renew()


_pools: dict[str, DecodePool] = {}
_every: WeakSet[DecodePool] = WeakSet()


def decoding_pool(limits: LimitOptions) -> DecodePool:
    """The pool of this process for `limits`; its processes start when they are first needed."""
    name = limits.model_dump_json()
    if name not in _pools:
        for other in list(_pools.values()):
            other.close()  # limits seldom change: what waits under others would wait in vain
        _pools[name] = DecodePool(limits)
    return _pools[name]


@atexit.register
def _close() -> None:
    for pool in list(_every):
        pool.close()


def _forget() -> None:
    for pool in list(_every):
        pool._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
