"""Take from the running process what a program does not need. There is no way back, so it is done after a fork."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys

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
    """End the process by SIGPROF when it has used `seconds` of processor time from now on."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def set_limits(seconds: float, memory: int) -> None:
    """At most `seconds` of processor time in all and `memory` MiB of addresses; no new file, no byte into a file, no
    process."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    wanted = {
        resource.RLIMIT_CPU: int(seconds) + 2,
        resource.RLIMIT_AS: memory * 2**20,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in wanted.items():
        resource.setrlimit(kind, (most, most))


def filter_system_calls() -> bool:
    """Let every system call fail with EPERM that a computation does not need.

    False where the system has no such filter. Source: Linux, "Seccomp BPF (SECure COMPuting with filters)",
    Documentation/userspace-api/seccomp_filter.rst.
    """
    if _PROGRAM is None:
        return False
    described = ctypes.create_string_buffer(struct.pack("@HP", len(_PROGRAM) // 8, ctypes.addressof(_PROGRAM)))
    _control(_DIE_WITH_PARENT, signal.SIGKILL)
    return _control(_NO_NEW_PRIVILEGES, 1) and _control(_SET_FILTER, _FILTER, ctypes.addressof(described))


def close_other_files(kept: int) -> None:
    """Close every file above standard error except `kept`."""
    os.closerange(3, kept)
    os.closerange(kept + 1, 1024)


def _control(option: int, *values: int) -> bool:
    filled = [*values, 0, 0, 0, 0][:4]
    return _SYSTEM.prctl(ctypes.c_int(option), *(ctypes.c_ulong(value) for value in filled)) == 0


def _filter_program() -> ctypes.Array | None:
    """The filter as instructions of eight bytes: fail unless the call's number is one of the allowed."""
    if not sys.platform.startswith("linux") or platform.machine() not in _ALLOWED:
        return None
    architecture, calls = _ALLOWED[platform.machine()]
    steps = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    steps += [(_IF_EQUAL, len(calls) - place, 0, call) for place, call in enumerate(calls)]
    steps += [(_RETURN, 0, 0, _FAIL), (_RETURN, 0, 0, _ALLOW)]
    packed = b"".join(struct.pack("=HBBI", *step) for step in steps)
    return ctypes.create_string_buffer(packed, len(packed))


_SYSTEM = ctypes.CDLL(None)
_PROGRAM = _filter_program()
