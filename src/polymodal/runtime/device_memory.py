"""The memory of an accelerator, and of the machine."""

from __future__ import annotations

from pathlib import Path

import torch

from polymodal.runtime.compute import CPU


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the device is full.

    Example:
        >>> is_out_of_memory(RuntimeError("MPS backend out of memory")), is_out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    return isinstance(error, torch.OutOfMemoryError) or "backend out of memory" in str(error)


def free_memory(device: str) -> int | None:
    """The bytes of memory that are free on an accelerator; None for a device that does not tell."""
    kind = torch.device(device).type
    if kind in ("cuda", "xpu"):
        free: int = torch.get_device_module(kind).mem_get_info(torch.device(device))[0]
        return free
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None


def host_memory() -> int | None:
    """The bytes of main memory that are free, or that the system frees when they are needed; None where it does not
    tell (other systems than Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    limits = [Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current")]
    texts = [one.read_text().strip() for one in limits if one.is_file()]
    if len(texts) == 2 and texts[0].isdecimal():  # a container
        found = min(found, int(texts[0]) - int(texts[1]))
    return found


def release_memory(device: str) -> None:
    """Give the cached blocks of an accelerator back to it."""
    if torch.device(device).type != CPU:
        torch.accelerator.memory.empty_cache()
