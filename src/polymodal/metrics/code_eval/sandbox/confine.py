"""Remove privileges from the running process. This is irreversible, so it is done after a fork."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import resource
import signal
import struct
import sys
from pathlib import Path

# Calls by their numbers on x86-64 and ARM64 (Linux, asm/unistd.h): read, write, mmap, mprotect, munmap, brk,
# rt_sigaction, rt_sigprocmask, rt_sigreturn, mremap, madvise, setitimer, exit, exit_group, futex, clock_gettime,
# sigaltstack, getrandom.
_ALLOWED = {
    "x86_64": (0xC000003E, (0, 1, 9, 10, 11, 12, 13, 14, 15, 25, 28, 38, 60, 231, 202, 228, 131, 318)),
    "aarch64": (0xC00000B7, (63, 64, 222, 226, 215, 214, 134, 135, 139, 216, 233, 103, 93, 94, 98, 113, 132, 278)),
}
_NO_NEW_PRIVILEGES, _DIE_WITH_PARENT, _SET_FILTER, _FILTER = 38, 1, 22, 2
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM


def set_time_limit(seconds: float) -> None:
    """End the process with SIGPROF after `seconds` of processor time from now on."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def set_limits(seconds: float, memory: int) -> None:
    """Limit the process to `seconds` of processor time and `memory` MiB of address space beyond what it has; no new
    files, no writing to files, no processes."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = {
        resource.RLIMIT_CPU: int(seconds) + 2,
        resource.RLIMIT_AS: pages * mmap.PAGESIZE + memory * 2**20,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))


def has_free(memory: int) -> bool:
    """Whether the process may still allocate `memory` MiB."""
    if memory <= 0:
        return True
    try:
        mmap.mmap(-1, memory * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except OSError:
        return False
    return True


def filter_system_calls() -> bool:
    """Install a system call filter: calls that a computation does not need fail with EPERM.

    False if the system does not support it. Source: Linux, "Seccomp BPF (SECure COMPuting with filters)",
    Documentation/userspace-api/seccomp_filter.rst.
    """
    if _PROGRAM is None:
        return False
    program = ctypes.create_string_buffer(struct.pack("@HP", len(_PROGRAM) // 8, ctypes.addressof(_PROGRAM)))
    _control(_DIE_WITH_PARENT, signal.SIGKILL)
    return _control(_NO_NEW_PRIVILEGES, 1) and _control(_SET_FILTER, _FILTER, ctypes.addressof(program))


def close_other_files(keep_open: int) -> None:
    """Close every file descriptor above standard error except `keep_open`."""
    os.closerange(3, keep_open)
    os.closerange(keep_open + 1, 1024)


def _control(option: int, *values: int) -> bool:
    filled = [*values, 0, 0, 0, 0][:4]
    return _SYSTEM.prctl(ctypes.c_int(option), *(ctypes.c_ulong(value) for value in filled)) == 0


def _filter_program() -> ctypes.Array | None:
    """The filter as instructions of eight bytes: fail unless the call number is allowed."""
    if not sys.platform.startswith("linux") or platform.machine() not in _ALLOWED:
        return None
    architecture, calls = _ALLOWED[platform.machine()]
    steps = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    steps += [(_IF_EQUAL, len(calls) - index, 0, call) for index, call in enumerate(calls)]
    steps += [(_RETURN, 0, 0, _FAIL), (_RETURN, 0, 0, _ALLOW)]
    packed = b"".join(struct.pack("=HBBI", *step) for step in steps)
    return ctypes.create_string_buffer(packed, len(packed))


_SYSTEM = ctypes.CDLL(None)
_PROGRAM = _filter_program()
