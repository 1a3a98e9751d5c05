"""Shards of work, and the share of them that one job of an array does."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from polymodal.core.caller import warn_caller
from polymodal.core.errors import PolymodalError, PolymodalWarning, RecipeError

#: Times that a shard is begun before the run fails, if the process that works on it is killed.
MAX_ATTEMPTS = 3


class ShardRetryWarning(PolymodalWarning):
    """A process was killed in the middle of a shard, which begins again."""


@dataclass(frozen=True)
class Shard:
    """Rows of a table that are worked on as one.

    number: the place among the shards, from 0
    start, stop: the first row, and the row after the last one
    name: the name of its output file, which tells all that the content depends on
    """

    number: int
    start: int
    stop: int
    name: str

    @property
    def title(self) -> str:
        """The rows, for messages; the name of a shard without rows."""
        return f"rows {self.start} to {self.stop - 1}" if self.stop > self.start else self.name


class ShardWork(Protocol):
    """The work of one process. It is opened once, then run for some of the shards."""

    def run(self, shard: Shard) -> None:
        """Write the output of a shard, whole or not at all. Running it again gives the same output."""


@dataclass(frozen=True)
class WorkSpec:
    """How a process makes its work: `open_work(**arguments)` in `module`. The arguments are plain values that JSON can
    hold, so that other processes and machines are sent no objects and no data."""

    module: str
    arguments: dict[str, Any]

    def open(self) -> ShardWork:
        """The work of this process."""
        work: ShardWork = importlib.import_module(self.module).open_work(**self.arguments)
        return work


#: Called with each shard that is complete.
Done = Callable[[Shard], None]


class Engine(Protocol):
    """Runs the work of all shards."""

    def run(self, spec: WorkSpec, shards: Sequence[Shard], done: Done) -> None:
        """Run the work of each shard, in any order, and return when all are complete.

        Raises:
            PolymodalError: the work of a shard failed, or its process was killed `MAX_ATTEMPTS` times.
        """


@dataclass(frozen=True)
class ArrayShare:
    """The shards of one job of an array of `count` jobs: every `count`-th shard, from `index`.

    Example:
        >>> ArrayShare.parse("1/4").of([10, 11, 12, 13, 14, 15])
        [11, 15]
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> ArrayShare:
        """Read `INDEX/COUNT`, with an index from 0.

        Raises:
            RecipeError: it is none.
        """
        matched = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if matched is None or int(matched[1]) >= int(matched[2]):
            raise RecipeError(
                "shards", f"must be the number of this job and of all jobs, from 0/4 to 3/4 for 4 jobs, not {text!r}"
            )
        return cls(int(matched[1]), int(matched[2]))

    def of(self, shards: Sequence[Any]) -> list[Any]:
        """The shards of this job."""
        return list(shards[self.index :: self.count])


def killed_too_often(shard: Shard, attempts: int = MAX_ATTEMPTS) -> PolymodalError:
    """The error for a shard whose process is killed again and again."""
    return PolymodalError(
        f"the process that works on {shard.title} was killed {attempts} times; it may run "
        "out of memory: use fewer workers or smaller shards"
    )


def warn_of_retry(shard: Shard, killed: int, attempts: int, reason: str) -> None:
    """Warn that a shard begins again.

    killed: times that its process was killed
    attempts: times that it is begun at most
    reason: the end of its process, a sentence
    """
    warn_caller(f"{shard.title}: {reason}; attempt {killed + 1} of {attempts} begins", ShardRetryWarning)


def shard_to_json(shard: Shard) -> dict[str, Any]:
    """A shard as plain values, from which `Shard(**values)` gives it again."""
    return asdict(shard)
