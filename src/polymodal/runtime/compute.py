"""Device, precision and number of threads of a computation; allocator settings."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch

from polymodal.core.errors import RecipeError
from polymodal.runtime.cpu_kernels import supports_bf16
from polymodal.runtime.thread_limit import LIMIT, allowed_threads

Precision = Literal["fp32", "bf16", "fp16"]
CPU = "cpu"
#: What torch computes products in, by precision.
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Kinds of devices that a recipe may name, besides `auto`.
KINDS = (CPU, "cuda", "mps", "xpu")
#: The environment variable with the device that `auto` means.
DEVICE_VARIABLE = "POLYMODAL_DEVICE"
#: The reason of a configuration that replaces fp16 by fp32.
NO_FP16 = "the recipe sets fp16, which only CUDA and XPU devices compute: computed in fp32"
#: The reason of a configuration that replaces bf16 by fp32.
NO_BF16 = "the recipe sets bf16, but this processor has no bf16 instructions: computed in fp32"


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
        kind, is_reduced = torch.device(self.device).type, self.precision != "fp32"
        dtype = DTYPES[self.precision] if is_reduced else torch.bfloat16
        try:
            with (
                _tf32() if kind == "cuda" and is_reduced else nullcontext(),
                torch.autocast(kind, dtype, enabled=is_reduced, cache_enabled=False),
            ):
                yield
        finally:
            if before != self.threads:
                torch.set_num_threads(before)

    def supported(self) -> ComputeConfig:
        """This configuration with what the device and the user allow; its `reason` names what was changed.

        It is in fp32 if the device has no instructions for its precision: bf16 then takes several times as long as
        fp32, and some layers raise an error. It has at most `OMP_NUM_THREADS` threads.
        """
        found, threads = self, allowed_threads(self.threads)
        if threads < self.threads:
            found = replace(
                found, threads=threads, reason=f"the recipe sets {self.threads} threads; {LIMIT} is {threads}"
            )
        if found.precision == "bf16" and not has_bf16(self.device):
            found = replace(found, precision="fp32", reason=NO_BF16)
        if found.precision == "fp16" and not has_fp16(self.device):
            found = replace(found, precision="fp32", reason=NO_FP16)
        return found


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


@contextmanager
def _tf32() -> Iterator[None]:
    """What remains in fp32 beside bf16 or fp16 is multiplied in TF32 on CUDA."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def resolve_device(requested: str, path: str = "training.device") -> str:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, `xpu` or `xpu:1` on this machine.

    `auto` is the device of the environment variable `POLYMODAL_DEVICE`; if it is not set, the accelerator of the
    machine, or `cpu`.

    path: the recipe key for error messages

    Raises:
        RecipeError: the device does not exist.
    """
    if requested == "auto" and os.environ.get(DEVICE_VARIABLE, "auto") != "auto":
        requested, path = os.environ[DEVICE_VARIABLE], DEVICE_VARIABLE
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if requested == "auto":
        return CPU if accelerator is None else str(accelerator)
    kind, _, number = requested.partition(":")
    available = {CPU: 1} | ({} if accelerator is None else {accelerator.type: torch.accelerator.device_count()})
    if kind not in (*KINDS, *available) or not (number or "0").isdecimal():
        raise RecipeError(path, f"there is no device {requested!r}; choose from auto, cpu, cuda, cuda:1, mps or xpu")
    if int(number or 0) >= available.get(kind, 0):
        have = [CPU, *(f"{one}:{i}" for one, count in available.items() if one != CPU for i in range(count))]
        raise RecipeError(
            path,
            f"there is no {requested} on this machine or in this build of torch; choose from auto, {', '.join(have)}",
        )
    return requested


def network_device(network: torch.nn.Module) -> str:
    """The device of the parameters of a network."""
    first = next(network.parameters(), None)
    return CPU if first is None else str(first.device)


def has_streams(device: str) -> bool:
    """Whether a device copies from pinned memory while it computes."""
    return torch.device(device).type in ("cuda", "xpu")


def has_fused_optimizer(device: str) -> bool:
    """Whether torch updates all parameters of a device by one kernel."""
    return torch.device(device).type in KINDS


def has_fp16(device: str) -> bool:
    """Whether a device trains in fp16, with scaled gradients."""
    return torch.device(device).type in ("cuda", "xpu")


def has_bf16(device: str) -> bool:
    """Whether a device has instructions for products in bf16."""
    kind = torch.device(device).type
    if kind == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    if kind == "xpu":
        return torch.xpu.is_bf16_supported()
    return supports_bf16()
