"""The process in which programs are forked: programs come in as JSON on standard input, results leave line by line.

It runs without the packages of the environment, so it imports only the standard library and the two modules beside it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import traceback
from typing import Any

from polymodal.metrics.code_eval.sandbox.confine import close_other_files, filter_system_calls, set_limits, set_time_limit
from polymodal.metrics.code_eval.sandbox.rules import ForbiddenCode, namespace, parse

#: Characters of a result's detail.
_LONGEST_DETAIL = 300
#: Programs that one child judges, if all goes well: forking costs more than running a small program.
_BATCH = 64
#: Errors after which a process is not what it was.
_EXHAUSTED = ("MemoryError", "RecursionError")

Verdict = tuple[str, str]
TestedProgram = tuple[str, str]


def main() -> None:
    work = json.load(sys.stdin)
    results = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    gc.freeze()  # what is there stays shared between the processes
    rest = work["programs"]
    while rest:
        answers = _run_in_fork(rest[:_BATCH], work["seconds"], work["memory"])
        results.writelines(json.dumps(answer) + "\n" for answer in answers)
        results.flush()
        rest = rest[len(answers) :]


def run_tested(program: str, tests: str) -> Verdict:
    """Run a program and then its tests in this process: (result, detail)."""
    stage = namespace()
    try:
        for text, name in ((program, "<program>"), (tests, "<tests>")):
            exec(compile(parse(text), name, "exec"), stage)
    except ForbiddenCode as refusal:
        return "refused", str(refusal)
    except SyntaxError as error:
        return "error", f"SyntaxError: {error.msg} (line {error.lineno or 1})"
    except BaseException as error:  # noqa: BLE001  # whatever a foreign program raises is its result
        last = traceback.extract_tb(error.__traceback__)[-1]
        if isinstance(error, AssertionError) and last.filename == "<tests>":
            return "failed", tests.splitlines()[(last.lineno or 1) - 1].strip()
        return "error", f"{type(error).__name__}: {error}"
    return "passed", ""


def _run_in_fork(programs: list[TestedProgram], seconds: float, memory: int) -> list[Verdict]:
    """The answers of the first programs, one at least, from one child process.

    The child ends after a program that exhausted memory or stack; if a program ends the child, that is its answer.
    Either way the next program begins in a fresh process.
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
                os.write(write, json.dumps([result, detail[:_LONGEST_DETAIL]]).encode() + b"\n")
                if detail.startswith(_EXHAUSTED):
                    break
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    answers = _read_verdicts(read, len(programs), 20 * seconds + 5)
    os.close(read)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if len(answers) < len(programs) and status != 0:
        answers.append(_exit_verdict(status))
    return answers


def _read_verdicts(pipe: int, programs: int, seconds: float) -> list[Verdict]:
    """What the child said until all programs were judged, it ended, or nothing came for so many seconds."""
    said = b""
    while said.count(b"\n") < programs and select.select([pipe], [], [], seconds)[0]:
        more = os.read(pipe, 65_536)
        if not more:
            break
        said += more
    answers: list[list[Any]] = [json.loads(line) for line in said.split(b"\n")[:-1]]
    return [(str(result), str(detail)) for result, detail in answers]


def _exit_verdict(status: int) -> Verdict:
    """The answer of a program that ended its process."""
    ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no result"
    if ended in ("SIGPROF", "SIGXCPU", "SIGKILL"):
        return "timeout", "the time is used up"
    return "error", f"the process ended: {ended}"
