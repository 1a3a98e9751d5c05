"""Worker process that forks programs: JSON on standard input, one result per line.

It runs without the packages of the environment and imports only the standard library and the two modules in its folder.
"""

from __future__ import annotations

import codecs
import gc
import importlib
import json
import os
import re
import select
import signal
import sys
import traceback
from typing import Any

from polymodal.metrics.code_eval.sandbox.confine import (
    close_other_files,
    filter_system_calls,
    has_free,
    set_limits,
    set_time_limit,
)
from polymodal.metrics.code_eval.sandbox.rules import ForbiddenCode, namespace, parse, tests_namespace

#: Maximum number of characters of the detail of a result.
_MAX_DETAIL_LENGTH = 300
#: Number of programs per child process: a fork is more expensive than a small program.
_BATCH = 64
#: Errors after which the state of a process is unreliable.
_EXHAUSTED = ("MemoryError", "RecursionError")
#: Details of programs that may have lacked memory.
_ENDED = "the process ended"
_MEMORY = ("MemoryError", _ENDED)
#: MiB that programs may leave allocated in their process. After more, the next program starts in a new process.
_LEFTOVERS = 4
#: What the interpreter imports while it parses or runs a program, when files can no longer be read.
_IMPORTED_LATER = ("heapq", "unicodedata", *(["_pylong"] if sys.version_info >= (3, 12) else []))
_ENCODINGS = """
ascii cp437 cp1252 idna latin-1 punycode raw_unicode_escape unicode_escape
utf-7 utf-8-sig utf-16 utf-16-be utf-16-le utf-32 utf-32-be utf-32-le
"""

Verdict = tuple[str, str]
TestedProgram = tuple[str, str]


def main() -> None:
    job = json.load(sys.stdin)
    results = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for module in _IMPORTED_LATER:
        importlib.import_module(module)
    for encoding in _ENCODINGS.split():
        codecs.lookup(encoding)
    gc.freeze()  # existing objects stay shared between the processes
    pending = job["programs"]
    while pending:
        verdicts = _run_in_fork(pending[:_BATCH], job["seconds"], job["memory"])
        results.writelines(json.dumps(verdict) + "\n" for verdict in verdicts)
        results.flush()
        pending = pending[len(verdicts) :]


def run_tested(program: str, tests: str) -> Verdict:
    """Run a program and then its tests in this process. Returns (result, detail)."""
    globals_ = namespace()
    try:
        exec(compile(parse(program), "<program>", "exec"), globals_)
        tree = parse(tests, defined=globals_)
        exec(compile(tree, "<tests>", "exec"), tests_namespace(tree, globals_))
    except ForbiddenCode as error:
        return "forbidden", str(error)
    except SyntaxError as error:
        return "error", f"SyntaxError: {error.msg} (line {error.lineno or 1})"
    except BaseException as error:  # noqa: BLE001  # any exception of the program is its result
        last = traceback.extract_tb(error.__traceback__)[-1]
        if isinstance(error, AssertionError) and last.filename == "<tests>":
            return "failed", tests.splitlines()[(last.lineno or 1) - 1].strip()
        return "error", _without_addresses(f"{type(error).__name__}: {error}")
    return "passed", ""


def _without_addresses(text: str) -> str:
    """The text without addresses of objects, which differ between runs."""
    return re.sub(r"\bat 0x[0-9a-f]+", "at 0x...", text)


def _run_in_fork(programs: list[TestedProgram], seconds: float, memory: int) -> list[Verdict]:
    """Verdicts of the first programs, at least one, from one child process.

    The child ends after a program that exhausts memory or stack, or leaves memory allocated. If a program ends the
    child, that is its verdict. In all cases the next program starts in a new process. A program that exhausts a process
    in which others ran before gets no verdict: they may be the cause.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            close_other_files(write)
            set_limits(seconds * len(programs), memory)
            filter_system_calls()
            for program, tests in programs:
                set_time_limit(seconds)
                result, detail = run_tested(program, tests)
                gc.collect()  # within the time of the program that left the garbage
                re.purge()
                os.write(write, json.dumps([result, detail[:_MAX_DETAIL_LENGTH]]).encode() + b"\n")
                if detail.startswith(_EXHAUSTED) or not has_free(memory - _LEFTOVERS):
                    break
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    verdicts = _read_verdicts(read, len(programs), 20 * seconds + 5)
    os.close(read)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if len(verdicts) < len(programs) and status != 0:
        verdicts.append(_exit_verdict(status))
    if len(verdicts) > 1 and verdicts[-1][0] == "error" and verdicts[-1][1].startswith(_MEMORY):
        verdicts.pop()
    return verdicts


def _read_verdicts(pipe: int, programs: int, seconds: float) -> list[Verdict]:
    """Read the verdicts of the child until all programs have one, the child ends, or `seconds` pass without output."""
    output = b""
    while output.count(b"\n") < programs and select.select([pipe], [], [], seconds)[0]:
        more = os.read(pipe, 65_536)
        if not more:
            break
        output += more
    verdicts: list[list[Any]] = [json.loads(line) for line in output.split(b"\n")[:-1]]
    return [(str(result), str(detail)) for result, detail in verdicts]


def _exit_verdict(status: int) -> Verdict:
    """Verdict of a program that ended its process."""
    signal_name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no result"
    if signal_name in ("SIGPROF", "SIGXCPU", "SIGKILL"):
        return "timeout", "time limit exceeded"
    return "error", f"{_ENDED}: {signal_name}"
