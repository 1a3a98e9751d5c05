"""One decoding process, seen from the one that started it: every exchange ends, whatever the other side does."""

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
from polymodal.data.media.workers.worker import KINDS, MARK, decoder, pack
from polymodal.recipe.data import LimitOptions

_LARGEST_HEADER = 2**20
_READ_AHEAD = 2**20
_PIPE = 2**20
# Libraries in a decoding process use one thread: processes are what runs at the same time.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")

Shapes = dict[str, tuple[str, tuple[int, ...]]]


class WorkerLost(Exception):
    """The process has ended, or answers what no sound process would."""


class WorkerSlow(Exception):
    """The process has not answered in time."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to decode; `index` is its place in the order of results."""

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
        self.proven = False  # it has answered once
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
                start_new_session=True,  # an interrupt from the keyboard is for the process that waits for results
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

    def begin(self, items: Sequence[Item], seconds: float) -> None:
        """Send `items`, to be decoded in this order, and wait until the decoders are there, at most so many seconds.

        Raises:
            WorkerLost: the process has ended.
            WorkerSlow: the decoders are not there in time.
        """
        requests: dict[Any, int] = {}
        listed = [(requests.setdefault(item.request, len(requests)), len(item.data)) for item in items]
        header = pack({"requests": [_describe_request(request)[:2] for request in requests], "items": listed})
        self._marks.readall()
        start = [] if self.proven else [pack({"limits": self.limits.model_dump()})]
        deadline = time.monotonic() + seconds
        self._send(b"".join([*start, header, *(item.data for item in items)]), deadline)
        if self._header(deadline) != {"ready": True}:
            raise WorkerLost
        self.proven = True

    def more(self) -> bool:
        """Whether part of the next answer has been read already."""
        return self._from < self._to

    def begun(self) -> int:
        """How many files of the last bunch the process had begun to decode when it was stopped."""
        return self._begun

    @property
    def code(self) -> int | None:
        """The code that the process ended with; None while it runs."""
        return self._process.returncode

    @property
    def late(self) -> bool:
        """Whether the process has ended itself because a file took too long."""
        return self.code == -signal.SIGALRM

    def answer(self, deadline: float) -> dict[str, Any]:
        """The header of the next item's answer.

        Raises:
            WorkerLost: the process has ended.
            WorkerSlow: there is no answer at `deadline` (monotonic seconds).
        """
        return self._header(deadline)

    def arrays(self, shapes: Shapes, deadline: float) -> dict[str, np.ndarray]:
        """The arrays that follow an answer with `fields`; `shapes` are those of that answer.

        Raises:
            WorkerLost: the process has ended.
            WorkerSlow: they are not complete at `deadline`.
        """
        found = {}
        for name, (dtype, shape) in shapes.items():
            found[name] = np.empty(shape, dtype)
            self._fill(found[name].reshape(-1).view(np.uint8).data, deadline)
        return found

    def shapes(self, answer: dict[str, Any], request: Any) -> Shapes:
        """Type and shape of each array that follows an answer, checked: a process that a damaged file has led astray
        may say anything.

        Raises:
            WorkerLost: they are not what `request` asks for.
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
        if size_of(found) > self.limits.memory_mib * 2**20:
            raise WorkerLost
        return found

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        if not self._marks.closed:
            self._begun = (self._marks.readall() or b"").count(MARK)
        self.abandon()

    def mourn(self) -> None:
        """Let a process that is lost come to its own end, so that `code` tells it; `stop` is still needed."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)

    def kill(self) -> None:
        """End the process from another thread than the one that waits for its answer, which then loses it."""
        self._process.kill()

    def abandon(self) -> None:
        """Close the pipes, in a forked process too, which must not keep them open."""
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
        """Read until `wanted` is full: from what was read ahead, then large arrays straight to their place."""
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

    def _read(self, place: memoryview, deadline: float) -> int:
        try:
            while (count := self._output.readinto(place)) is None:
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


def size_of(shapes: Shapes) -> int:
    """Bytes of the arrays."""
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in shapes.values())


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise WorkerSlow


def _enlarge_pipe(descriptor: int) -> None:
    """Let a pipe hold more, where the system can: a process then need not wait while its answers are fetched."""
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
        raise TypeError(f"{type(request).__name__} is not a request for media")
    return kind, asdict(request), decoder(kind).layout(request)
