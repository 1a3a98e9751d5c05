"""The parent's side of one decoding process. Every exchange has a deadline, whatever the process does."""

from __future__ import annotations

import io
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from polymodal.core.errors import PolymodalError
from polymodal.data.media.workers.worker import KINDS, START_MARK, decoder_module, pack_message
from polymodal.recipe.data import LimitOptions

_LARGEST_HEADER = 2**20
_READ_AHEAD = 2**20
_PIPE = 2**20
# Libraries in a decoding process use one thread, since the processes run in parallel.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")

Shapes = dict[str, tuple[str, tuple[int, ...]]]


class WorkerLost(Exception):
    """The process has ended, or gives an invalid answer."""


class WorkerTimeout(Exception):
    """The process has not answered in time."""


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """One file to decode; `index` is its position in the order of results."""

    index: int
    data: bytes
    request: Any


class WorkerProcess:
    """A running decoding process.

    Raises:
        PolymodalError: it cannot be started.
    """

    def __init__(self, limits: LimitOptions) -> None:
        self.limits = limits
        self.started = False  # it has answered once
        self._begun = 0
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "polymodal.data.media.workers.worker"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # only the parent process handles keyboard interrupts
            )
        except OSError as error:
            raise PolymodalError(f"a decoding process cannot be started: {error.strerror}") from error
        assert isinstance(self._process.stdin, io.FileIO)
        assert isinstance(self._process.stdout, io.FileIO)
        assert isinstance(self._process.stderr, io.FileIO)
        self._input, self._output, self._marks = self._process.stdin, self._process.stdout, self._process.stderr
        for file in (self._input, self._output, self._marks):
            os.set_blocking(file.fileno(), False)
        _enlarge_pipe(self._input.fileno())
        _enlarge_pipe(self._output.fileno())
        self._ahead, self._from, self._to = memoryview(bytearray(_READ_AHEAD)), 0, 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def send_batch(self, items: Sequence[DecodeJob], seconds: float) -> None:
        """Send `items`, to be decoded in this order, and wait up to `seconds` until the decoders are ready.

        Raises:
            WorkerLost: the process has ended.
            WorkerTimeout: the decoders are not ready in time.
        """
        requests: dict[Any, int] = {}
        listed = [(requests.setdefault(item.request, len(requests)), len(item.data)) for item in items]
        header = pack_message({"requests": [_describe_request(request)[:2] for request in requests], "items": listed})
        self._marks.readall()
        start = [] if self.started else [pack_message({"limits": self.limits.model_dump()})]
        deadline = time.monotonic() + seconds
        self._send(b"".join([*start, header, *(item.data for item in items)]), deadline)
        if self._header(deadline) != {"ready": True}:
            raise WorkerLost
        self.started = True

    def has_buffered(self) -> bool:
        """Whether part of the next answer has been read already."""
        return self._from < self._to

    def num_begun(self) -> int:
        """How many files of the last batch the process had begun to decode when it was stopped."""
        return self._begun

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process; None while it runs."""
        return self._process.returncode

    @property
    def timed_out(self) -> bool:
        """Whether the process has ended itself because a file took too long."""
        return self.exit_code == -signal.SIGALRM

    def read_answer(self, deadline: float) -> dict[str, Any]:
        """The header of the next item's answer.

        Raises:
            WorkerLost: the process has ended.
            WorkerTimeout: there is no answer at `deadline` (monotonic seconds).
        """
        return self._header(deadline)

    def read_arrays(self, shapes: Shapes, deadline: float) -> dict[str, np.ndarray]:
        """The arrays that follow an answer with `fields`; `shapes` are those of this answer.

        Raises:
            WorkerLost: the process has ended.
            WorkerTimeout: they are not complete at `deadline`.
        """
        found = {}
        for name, (dtype, shape) in shapes.items():
            found[name] = np.empty(shape, dtype)
            self._fill(found[name].reshape(-1).view(np.uint8).data, deadline)
        return found

    def check_shapes(self, answer: dict[str, Any], request: Any) -> Shapes:
        """Dtype and shape of each array that follows an answer, validated: a process corrupted by a damaged file may
        send anything.

        Raises:
            WorkerLost: they do not match `request`.
        """
        layout = _describe_request(request)[2]
        found = {}
        if answer["fields"] and answer["fields"].keys() != layout.keys():
            raise WorkerLost
        for name, shape in answer["fields"].items():
            if not all(isinstance(size, int) and size >= 0 for size in shape):
                raise WorkerLost
            dtype, record = layout[name]
            found[name] = (dtype, tuple(shape))
            if tuple(shape) != record and tuple(shape[1:]) != record:
                raise WorkerLost
        if total_bytes(found) > self.limits.memory_mib * 2**20:
            raise WorkerLost
        return found

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        if not self._marks.closed:
            self._begun = (self._marks.readall() or b"").count(START_MARK)
        self.detach()

    def wait_exit(self) -> None:
        """Give a lost process time to exit, so that `exit_code` is its own. `stop` is still required."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)

    def kill(self) -> None:
        """Kill the process from another thread than the one that waits for its answer. That thread then gets
        `WorkerLost`."""
        self._process.kill()

    def detach(self) -> None:
        """Close the pipes. A forked process must also close its copies."""
        self._input.close()
        self._output.close()
        self._marks.close()

    def _header(self, deadline: float) -> dict[str, Any]:
        length = int.from_bytes(self._exactly(4, deadline), "little")
        if length > _LARGEST_HEADER:
            raise WorkerLost
        try:
            header = json.loads(self._exactly(length, deadline).decode())
        except ValueError as error:
            raise WorkerLost from error
        if not isinstance(header, dict):
            raise WorkerLost
        return header

    def _exactly(self, count: int, deadline: float) -> bytes:
        data = bytearray(count)
        self._fill(memoryview(data), deadline)
        return bytes(data)

    def _fill(self, wanted: memoryview, deadline: float) -> None:
        """Read until `wanted` is full: first from the read-ahead buffer, then large arrays directly into their
        memory buffer."""
        done = 0
        while done < len(wanted):
            if self._from < self._to:
                part = min(self._to - self._from, len(wanted) - done)
                wanted[done : done + part] = self._ahead[self._from : self._from + part]
                self._from += part
                done += part
            elif len(wanted) - done >= _READ_AHEAD:
                done += self._read(wanted[done:], deadline)
            else:
                self._from, self._to = 0, self._read(self._ahead, deadline)

    def _read(self, buffer: memoryview, deadline: float) -> int:
        try:
            while (count := self._output.readinto(buffer)) is None:
                _wait(self._output.fileno(), select.POLLIN, deadline)
        except (OSError, ValueError) as error:
            raise WorkerLost from error
        if count == 0:
            raise WorkerLost
        return count

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = self._input.write(rest)
                if written is None:
                    _wait(self._input.fileno(), select.POLLOUT, deadline)
                else:
                    rest = rest[written:]
        except (OSError, ValueError) as error:
            raise WorkerLost from error


def total_bytes(shapes: Shapes) -> int:
    """Bytes of the arrays."""
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in shapes.values())


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise WorkerTimeout


def _enlarge_pipe(descriptor: int) -> None:
    """Enlarge the buffer of a pipe, if the system supports it, so that a process need not wait while its answers are
    read."""
    try:
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE)
    except (ImportError, AttributeError, OSError):
        return


@lru_cache(maxsize=64)
def _describe_request(request: Any) -> tuple[str, dict[str, Any], dict[str, tuple[str, tuple[int, ...]]]]:
    """The kind, the fields and the layout of a request."""
    kind = type(request).__module__.rpartition(".")[2]
    if kind not in KINDS:
        raise TypeError(f"{type(request).__name__} is not a media request")
    return kind, asdict(request), decoder_module(kind).layout(request)
