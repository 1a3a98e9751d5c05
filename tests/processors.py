"""Processes whose torch and oneDNN may use fewer instructions than this processor has."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from polymodal.runtime.cpu_kernels import LIMITS

#: Variables that limit an x86 processor to the instructions of an older one, by its newest instructions.
OLDER = {
    "SSE4.1": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "AVX-512 without VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
}


def is_limited() -> bool:
    """Whether this process may use fewer instructions than its processor has."""
    return any(name in os.environ for name in LIMITS)


def can_limit(level: str) -> bool:
    """Whether the processor has the instructions of a level, and more."""
    needed = {"SSE4.1": ("AVX2", "AVX512"), "AVX2": ("AVX512",), "AVX-512 without VNNI": ("AVX512",)}[level]
    known = platform.machine() in ("x86_64", "AMD64") and not is_limited()
    return known and torch.backends.cpu.get_cpu_capability() in needed


def run_limited(level: str, arguments: Sequence[str], **given: str) -> str:
    """The output of `python ARGUMENTS` with the instructions of a level; the error output is part of a failure.

    given: more environment variables
    """
    root = Path(__file__).parents[1]
    environment = os.environ | OLDER[level] | given
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"with the instructions of {level}:\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    return done.stdout
