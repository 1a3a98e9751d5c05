"""How many threads an operation may have on this machine."""

from __future__ import annotations

import os

#: The variable with which a user limits the threads of numeric libraries.
LIMIT = "OMP_NUM_THREADS"
#: The variable with the number of processes of a launch on this machine.
PROCESSES = "LOCAL_WORLD_SIZE"


def num_cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def max_threads() -> int:
    """The largest number of threads of an operation: one for each processor, and at most `OMP_NUM_THREADS`. The
    processes of a launch on this machine (`LOCAL_WORLD_SIZE`) divide the processors.

    As in OpenMP, a value that is no positive number is ignored, and of a list (`4,2`) the first number counts.

    Example:
        >>> os.environ["OMP_NUM_THREADS"] = "1"
        >>> max_threads()
        1
    """
    given = os.environ.get(PROCESSES, "")
    processes = max(1, int(given)) if given.isdecimal() else 1
    return allowed_threads(max(1, num_cores() // processes))


def user_limit() -> int | None:
    """The number in `OMP_NUM_THREADS`; None if there is none."""
    first = os.environ.get(LIMIT, "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def allowed_threads(wanted: int) -> int:
    """`wanted`, at most the number in `OMP_NUM_THREADS`."""
    limit = user_limit()
    return wanted if limit is None else min(wanted, limit)
