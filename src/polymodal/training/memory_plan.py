"""The memory that training needs on an accelerator, before the first step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polymodal.core.errors import TrainingError
from polymodal.nn.network import Network
from polymodal.runtime.random_state import isolated_random_state

#: Bytes of a trainable parameter besides its weight: the gradient and the two moments of AdamW, in fp32.
STATE_BYTES = 12
#: Share of the free memory that is planned; the rest is for temporary tensors and fragments.
USABLE = 0.85


@dataclass(frozen=True)
class MemoryPlan:
    """What a step needs, in bytes.

    state: gradients and optimizer state of the trainable parameters
    per_row: the tensors that one row keeps for the backward pass
    rows: rows of a batch
    parts: parts of a batch, so that the tensors of one part fit
    """

    state: int
    per_row: int
    rows: int
    parts: int = 1

    def sentence(self) -> str:
        """The plan for the user."""
        return (
            f"a step needs {_gib(self.state)} for gradients and optimizer state, and {_gib(self.per_row * self.rows)} "
            f"for the activations of {self.rows} rows: each batch is computed in {self.parts} parts"
        )


def plan_memory(network: nn.Module, rows: int, per_row: int, free: int) -> MemoryPlan:
    """The number of parts in which a batch of `rows` rows fits into `free` bytes.

    Raises:
        TrainingError: gradients, optimizer state and one row do not fit; says how many parameters would.

    Example:
        >>> import torch
        >>> plan_memory(torch.nn.Linear(10, 10), rows=64, per_row=1000, free=40_000).parts
        2
    """
    trainable = sum(one.numel() for one in network.parameters() if one.requires_grad)
    state, usable = trainable * STATE_BYTES, int(free * USABLE)
    left = usable - state
    if left < per_row:
        fitting = max(0, usable - per_row) // STATE_BYTES
        raise TrainingError(
            f"the device has {_gib(free)} of free memory. Training {trainable:,} parameters needs {_gib(state)} for "
            f"gradients and optimizer state, and {_gib(per_row)} for each row. At most {fitting:,} trainable "
            "parameters would fit: use a smaller model (size, hidden_size), or fine_tuning: lora or frozen"
        )
    parts = min(rows, math.ceil(rows / (left // max(1, per_row))))
    return MemoryPlan(state, per_row, rows, max(1, parts))


def saved_bytes(step: Callable[[], object]) -> int:
    """The bytes of the tensors that `step` keeps for its backward pass, each storage once, without parameters."""
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            seen[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(seen.values())


def row_bytes(network: Network, forward: Callable[[Network], object], rows: int) -> int:
    """The bytes that one of `rows` rows keeps for the backward pass of `forward(copy of network)` in training mode."""
    trial = copy.deepcopy(network, {id(one): one for one in network.parameters() if not one.requires_grad}).train()
    with isolated_random_state():
        return math.ceil(saved_bytes(lambda: forward(trial)) / rows)


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**27 else f"{count / 2**20:.1f} MiB"
