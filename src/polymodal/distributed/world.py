"""The processes of a run: what they sum, gather and agree on. For one process, everything is the identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that train one model together. Each has the same network and its own rows of every batch.

    The loss of a batch is divided among the processes: each computes its part, and the parts add up to the loss of the
    whole batch. So gradients are summed. Sums of losses over rows are divided by the number of rows of all processes.

    This class is a single process, and all methods return their argument. `process_group.ProcessGroupWorld` is a
    process of several. Its methods must be called by all processes in the same order.

    rank: the number of this process, from 0; size: the number of processes
    local_rank: the number of this process on its machine

    Example:
        >>> import torch
        >>> SINGLE.sum(torch.tensor(3.0)), SINGLE.mean(torch.tensor([1.0, 3.0])), SINGLE.total(2)
        (tensor(3.), tensor(2.), 2.0)
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is process 0, which writes files and reports."""
        return self.rank == 0

    # Sums and rows of all processes

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes of tensors of one shape, without a gradient."""
        return value

    def sum_with_gradient(self, value: Tensor) -> Tensor:
        """The sum over the processes of tensors of one shape. Its gradient is summed over the processes, too."""
        return value

    def total(self, value: float | Tensor) -> float:
        """The sum over the processes of a number."""
        return float(value)

    def mean(self, values: Tensor) -> Tensor:
        """This process's part of the mean of the values of all processes, a scalar: the parts add up to the mean."""
        return values.mean()

    def mean_row(self, rows: Tensor) -> Tensor:
        """The mean over the rows `[n, ...]` of all processes, without a gradient."""
        return rows.mean(0)

    def share(self, value: Tensor) -> Tensor:
        """This process's part of a value that every process computed from the same rows."""
        return value

    def gather_rows(self, rows: Tensor) -> Tensor:
        """The rows `[n, ...]` of all processes in their order, `[n_0 + n_1 + ..., ...]`. The other dimensions are
        equal. The gradient of each row is the sum over the processes."""
        return rows

    def first_row(self, count: int) -> int:
        """The position of the first of the `count` rows of this process among the rows of all processes."""
        return 0

    # Values that all processes have in common

    def gather(self, value: Any) -> list[Any]:
        """The JSON-ready values of all processes in their order."""
        return [value]

    def gather_tensors(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes in their order, without a gradient. The dtypes and the numbers of dimensions are
        equal."""
        return [tensor]

    def agree(self, value: T) -> T:
        """The JSON-ready value of process 0."""
        return value

    def agree_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of process 0, by name, on the CPU."""
        return dict(tensors)

    def check_same(self, what: str, value: str) -> None:
        """Check that all processes have the same text.

        what: its name for the message

        Raises:
            PolymodalError: a process has another text than process 0.
        """

    def generator(self) -> torch.Generator | None:
        """A random generator with the same draws in all processes; None: the global generator, for one process."""
        return None

    # Work of one process

    def first(self, work: Callable[[], T]) -> T:
        """The JSON-ready result of `work`, which process 0 does while the others wait, for as long as it takes.

        Raises:
            PolymodalError: in the other processes, if the work raised an error.
        """
        return work()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Run the block in the first process of each machine, then in its other processes, which find the files in the
        caches.

        Raises:
            PolymodalError: in the other processes, if the block raised an error in the first.
        """
        yield


#: A run of one process.
SINGLE = World()
