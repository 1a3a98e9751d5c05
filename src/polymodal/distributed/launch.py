"""Whether this process was launched as one of several, from the environment."""

from __future__ import annotations

import os

#: The variables that `torchrun` sets for each process.
RANK, SIZE, LOCAL_RANK, RESTARTS = "RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"


def num_processes() -> int:
    """The number of processes of the launch; 1 without a launcher.

    Example:
        >>> num_processes()
        1
    """
    value = os.environ.get(SIZE, "1")
    is_launched = all(name in os.environ for name in (RANK, LOCAL_RANK, "MASTER_ADDR", "MASTER_PORT"))
    return int(value) if is_launched and value.isdecimal() and int(value) > 0 else 1


def is_first_process() -> bool:
    """Whether this is process 0 of the launch, or the only one."""
    return num_processes() == 1 or os.environ[RANK] == "0"


def num_restarts() -> int:
    """How often the launcher has restarted the processes after a failure."""
    value = os.environ.get(RESTARTS, "0")
    return int(value) if value.isdecimal() else 0
