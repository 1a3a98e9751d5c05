"""Device, precision and number of threads, the last two by measurement; allocator settings."""

from __future__ import annotations

import copy
import ctypes
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import xxhash

from polymodal.core.errors import RecipeError
from polymodal.core.paths import cache_folder
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.autotune_store import keep_choice, read_choice
from polymodal.runtime.cpu_kernels import processor_name, supports_bf16
from polymodal.runtime.random_state import isolated_random_state

Precision = Literal["fp32", "bf16"]
CPU = "cpu"
#: The reason of a configuration that replaces bf16 by fp32.
NO_BF16 = "the recipe sets bf16, but this processor has no bf16 instructions: computed in fp32"
#: If one thread gets less than this share of a processor during the measurement, other programs are running.
MIN_PROCESSOR_SHARE = 0.8


@dataclass(frozen=True)
class ComputeConfig:
    """Precision of matrix products, threads per operation, the reason for both, and the device of the network."""

    precision: Precision = "fp32"
    threads: int = 1
    reason: str = "default"
    device: str = CPU

    @contextmanager
    def active(self) -> Iterator[None]:
        """Compute with this configuration inside the block; the number of threads is restored afterwards."""
        before = torch.get_num_threads()
        if before != self.threads:
            torch.set_num_threads(self.threads)
        try:
            kind = torch.device(self.device).type
            with torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False):
                yield
        finally:
            if before != self.threads:
                torch.set_num_threads(before)

    def supported(self) -> ComputeConfig:
        """This configuration if the device has instructions for its precision; else the same in fp32, whose `reason`
        says so.

        Without bf16 instructions, bf16 takes several times as long as fp32, and some layers raise an error.
        """
        if self.precision == "fp32" or _supports_bf16(self.device):
            return self
        return replace(self, precision="fp32", reason=NO_BF16)


def keep_freed_memory() -> None:
    """Configure glibc to keep the memory of large freed tensors; on other systems, do nothing.

    Measured: the same training loop runs 1.5 to 1.8 times faster, because pages are not cleared again in each step.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL("libc.so.6")
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, 1 << 30)


def resolve_device(requested: str, path: str = "training.device") -> str:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1` or `mps` on this machine.

    path: the recipe key for error messages

    Raises:
        RecipeError: the device does not exist.
    """
    if requested == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return CPU if accelerator is None else str(accelerator)
    kind, _, number = requested.partition(":")
    available = {CPU: 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind not in available:
        raise RecipeError(path, f"there is no device {requested!r}; choose from auto, cpu, cuda, cuda:1 or mps")
    if int(number or 0) >= available[kind]:
        have = [CPU, *(f"cuda:{i}" for i in range(available["cuda"])), *(["mps"] if available["mps"] else [])]
        raise RecipeError(
            path,
            f"there is no {requested} on this machine or in this build of torch; choose from auto, {', '.join(have)}",
        )
    return requested


def network_device(network: torch.nn.Module) -> str:
    """The device of the parameters of a network."""
    first = next(network.parameters(), None)
    return CPU if first is None else str(first.device)


def autotune_cache() -> Path:
    """The folder with the measurements of `autotune`."""
    return cache_folder() / "compute_choices"


def autotune(
    options: TrainingOptions, network: torch.nn.Module, step: Callable[[Any], None], memory: Path | None
) -> ComputeConfig:
    """The fastest configuration to run `step(copy of network)`, among those that the recipe and the device allow.

    Each candidate is timed on the same copy in several rounds, and the medians are compared; bf16 and more threads
    must be faster by 10% to be chosen. bf16 is a candidate only if the device has instructions for it. The choice is
    stored in the folder `memory` by processor and network, so that a second run of the same recipe computes in the same
    way. The parameters and the random state of the caller do not change; the copy shares the frozen parameters.
    """
    device, cores = network_device(network), len(_cores())
    threads = [options.num_threads] if options.num_threads != "auto" else sorted({1, min(cores, 8)})
    precisions: list[Precision] = [options.precision] if options.precision != "auto" else ["fp32"]
    if options.precision == "auto" and _supports_bf16(device):
        precisions.append("bf16")
    is_set = "auto" not in (options.precision, options.num_threads)
    reason = "set by the recipe" if is_set else "the only choice on this processor"
    candidates = [ComputeConfig(one, count, reason, device).supported() for one in precisions for count in threads]
    if len(candidates) == 1:
        return candidates[0]
    key = _machine_key(network, candidates)
    known = _read_choice(memory, key, candidates)
    if known is not None:
        return known
    trial = copy.deepcopy(network, {id(one): one for one in network.parameters() if not one.requires_grad})
    wall: dict[ComputeConfig, list[float]] = {candidate: [] for candidate in candidates}
    processor = dict.fromkeys(candidates, 0.0)
    with isolated_random_state():
        for attempt in range(6):
            for candidate in candidates:
                with candidate.active():
                    start, processor_start = time.perf_counter(), time.process_time()
                    step(trial)
                    _finish(device)
                    if attempt > 0:  # the first round warms up
                        wall[candidate].append(time.perf_counter() - start)
                        processor[candidate] += time.process_time() - processor_start
    median = {candidate: statistics.median(spent) for candidate, spent in wall.items()}
    best = candidates[0]
    for candidate in candidates[1:]:
        if median[candidate] * 1.1 < median[best]:
            best = candidate
    measured = ", ".join(f"{c.precision} x {c.threads}: {median[c] * 1e3:.1f} ms" for c in candidates)
    busy = any(
        one.threads == 1 and device == CPU and processor[one] < MIN_PROCESSOR_SHARE * sum(wall[one])
        for one in candidates
    )
    reasons = [
        f"median step of the first batch, precision x threads: {measured}",
        f"measured on {datetime.now(UTC):%Y-%m-%d}" + (" while other programs used the processors" if busy else ""),
        *([NO_BF16] if best.reason == NO_BF16 else []),
    ]
    chosen = replace(best, reason="; ".join(reasons))
    if memory is not None:
        keep_choice(memory, key, asdict(chosen))
    return chosen


def _supports_bf16(device: str) -> bool:
    """Whether a device has instructions for products in bf16."""
    kind = torch.device(device).type
    if kind == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return supports_bf16()


def _finish(device: str) -> None:
    """Wait until an accelerator has finished its work."""
    if device != CPU:
        torch.accelerator.synchronize(device)


def _cores() -> list[int]:
    return list(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _machine_key(network: torch.nn.Module, candidates: list[ComputeConfig]) -> str:
    """A hash of everything that decides which candidate is faster: machines may share a home directory."""
    shapes = [(name, tuple(parameter.shape)) for name, parameter in network.named_parameters()]
    device = network_device(network)
    accelerator = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else ""
    waiting = os.environ.get("OMP_WAIT_POLICY")
    facts = (processor_name(), len(_cores()), accelerator, waiting, torch.__version__, shapes, candidates)
    return xxhash.xxh3_128_hexdigest(repr(facts).encode())


def _read_choice(memory: Path | None, key: str, candidates: list[ComputeConfig]) -> ComputeConfig | None:
    """The stored choice, if it is one of the candidates."""
    stored = {} if memory is None else read_choice(memory, key)
    for candidate in candidates:
        found = replace(candidate, reason=str(stored.get("reason")))
        if asdict(found) == stored:
            return found
    return None
