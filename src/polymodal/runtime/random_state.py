"""The state of the random generators of torch, on the CPU and on accelerators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

#: Names of the states in checkpoints.
CPU_STATE, ACCELERATOR_STATE = "random", "random.accelerator"


@contextmanager
def isolated_random_state(seed: int | None = None) -> Iterator[None]:
    """Restore the random state after the block; inside, start from `seed` if given."""
    with torch.random.fork_rng(devices=_devices()):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def random_state() -> dict[str, Tensor]:
    """The states of all random generators of a run, by name."""
    state = {CPU_STATE: torch.get_rng_state()}
    for device in _devices():
        state[f"{ACCELERATOR_STATE}.{device}"] = torch.get_device_module().get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Restore the states of `random_state`; accelerators that do not exist here are skipped."""
    torch.set_rng_state(state[CPU_STATE])
    for device in _devices():
        if f"{ACCELERATOR_STATE}.{device}" in state:
            torch.get_device_module().set_rng_state(state[f"{ACCELERATOR_STATE}.{device}"], device)


def _devices() -> list[int]:
    return list(range(torch.accelerator.device_count())) if torch.accelerator.is_available() else []
