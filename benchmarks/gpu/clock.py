"""Time and memory on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass
class Budget:
    """The seconds of the whole script; a part stops at its share of them."""

    seconds: float
    begun: float = field(default_factory=time.perf_counter)

    def is_over(self, share: float = 1.0) -> bool:
        """Whether this share of the seconds has passed."""
        return time.perf_counter() - self.begun > share * self.seconds


def synchronize(device: str) -> None:
    """Wait until the device has done its work."""
    if device != "cpu":
        torch.accelerator.synchronize(device)


def seconds_of(work: Callable[[], object], device: str, repeats: int, *, warm: int = 1) -> float:
    """The median seconds of `work` with all its work on the device, after `warm` calls."""
    spent = []
    for number in range(warm + repeats):
        synchronize(device)
        begun = time.perf_counter()
        work()
        synchronize(device)
        if number >= warm:
            spent.append(time.perf_counter() - begun)
    return sorted(spent)[len(spent) // 2]


def peak_mib(work: Callable[[], object], device: str) -> float | None:
    """The peak memory of `work` on a CUDA device in MiB; None elsewhere."""
    if torch.device(device).type != "cuda":
        work()
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    synchronize(device)
    return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
