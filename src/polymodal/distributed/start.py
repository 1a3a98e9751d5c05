"""The start of the `World` of a launch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from polymodal.distributed.launch import num_processes
from polymodal.distributed.world import SINGLE, World


@contextmanager
def start_world() -> Iterator[World]:
    """The processes of the launch in the block; a single process without a launcher, or with a launch of one.

    Raises:
        PolymodalError: the processes do not find each other.

    Example:
        >>> with start_world() as world:
        ...     world.size
        1
    """
    if num_processes() == 1:
        yield SINGLE
        return
    from polymodal.distributed.process_group import process_group  # the first use of torch.distributed

    with process_group() as world:
        yield world
