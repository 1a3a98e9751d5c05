"""The state of torch's random generators: of the processor and, where there is one, of the accelerator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

#: Names of the states, as checkpoints have them.
CPU_STATE, ACCELERATOR_STATE = "random", "random.accelerator"


@contextmanager
def isolated_random_state(seed: int | None = None) -> Iterator[None]:
    """Draw inside the block without a trace outside it; from the beginning of `seed`'s numbers where one is given."""
    with torch.random.fork_rng(devices=_devices()):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def random_state() -> dict[str, Tensor]:
    """The state of every generator that a run draws from, by name."""
    state = {CPU_STATE: torch.get_rng_state()}
    for device in _devices():
        state[f"{ACCELERATOR_STATE}.{device}"] = torch.get_device_module().get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Go on drawing where `random_state` was taken; accelerators that are not here are left out."""
    torch.set_rng_state(state[CPU_STATE])
    for device in _devices():
        if f"{ACCELERATOR_STATE}.{device}" in state:
            torch.get_device_module().set_rng_state(state[f"{ACCELERATOR_STATE}.{device}"], device)


def _devices() -> list[int]:
    return list(range(torch.accelerator.device_count())) if torch.accelerator.is_available() else []
