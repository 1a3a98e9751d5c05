"""The time limit of a search: work that reports its progress is stopped at the limit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from polymodal.core.errors import TrainingError
from polymodal.core.progress import Progress, ProgressTask


class TimeLimitReachedError(TrainingError):
    """The time limit of a search ended the training of a model."""

    def __init__(self) -> None:
        super().__init__("it was stopped at the time limit")


class LimitedProgress(Progress):
    """Progress that shows nothing, and stops the work at the first report after a deadline: a training step, an encoded
    item, or the begin of another piece of work.

    deadline: `time.time()`; None: no limit

    Raises:
        TimeLimitReachedError: from the reports of the work.
    """

    def __init__(self, deadline: float | None) -> None:
        super().__init__(False)
        self.deadline = math.inf if deadline is None else deadline

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[ProgressTask]:
        """The progress of the work inside, which is not shown."""
        self.check()
        yield _LimitedTask(self)

    def check(self) -> None:
        """Raise TimeLimitReachedError after the deadline."""
        if time.time() > self.deadline:
            raise TimeLimitReachedError


class _LimitedTask(ProgressTask):
    """A piece of work that is stopped at the deadline."""

    def __init__(self, limit: LimitedProgress) -> None:
        super().__init__()
        self._limit = limit

    def __call__(self, done: int) -> None:
        self._limit.check()

    def status(self, done: int, planned: int, text: str) -> None:
        self._limit.check()
