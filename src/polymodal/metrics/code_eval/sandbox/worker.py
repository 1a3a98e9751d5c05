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

from polymodal.metrics.code_eval.sandbox.confine import close_all_but, filter_calls, limit, limit_time
from polymodal.metrics.code_eval.sandbox.rules import Refused, namespace, parse

#: Characters of a result's detail.
_LONGEST_DETAIL = 300
#: Programs that one child judges, if all goes well: forking costs more than running a small program.
_BUNCH = 64
#: Errors after which a process is not what it was.
_EXHAUSTED = ("MemoryError", "RecursionError")

Answer = tuple[str, str]
Task = tuple[str, str]


def main() -> None:
    work = json.load(sys.stdin)
    results = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    gc.freeze()  # what is there stays shared between the processes
    rest = work["programs"]
    while rest:
        answers = _forked(rest[:_BUNCH], work["seconds"], work["memory"])
        results.writelines(json.dumps(answer) + "\n" for answer in answers)
        results.flush()
        rest = rest[len(answers) :]


def judge(program: str, tests: str) -> Answer:
    """Run a program and then its tests in this process: (result, detail)."""
    stage = namespace()
    try:
        for text, name in ((program, "<program>"), (tests, "<tests>")):
            exec(compile(parse(text), name, "exec"), stage)
    except Refused as refusal:
        return "refused", str(refusal)
    except SyntaxError as error:
        return "error", f"SyntaxError: {error.msg} (line {error.lineno or 1})"
    except BaseException as error:  # noqa: BLE001  # whatever a foreign program raises is its result
        last = traceback.extract_tb(error.__traceback__)[-1]
        if isinstance(error, AssertionError) and last.filename == "<tests>":
            return "failed", tests.splitlines()[(last.lineno or 1) - 1].strip()
        return "error", f"{type(error).__name__}: {error}"
    return "passed", ""


def _forked(programs: list[Task], seconds: float, memory: int) -> list[Answer]:
    """The answers of the first programs, one at least, from one child process.

    The child ends after a program that exhausted memory or stack; if a program ends the child, that is its answer.
    Either way the next program begins in a fresh process.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            close_all_but(write)
            limit(seconds * len(programs), memory)
            filter_calls()
            for program, tests in programs:
                limit_time(seconds)
                result, detail = judge(program, tests)
                os.write(write, json.dumps([result, detail[:_LONGEST_DETAIL]]).encode() + b"\n")
                if detail.startswith(_EXHAUSTED):
                    break
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    answers = _listen(read, len(programs), 20 * seconds + 5)
    os.close(read)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if len(answers) < len(programs) and status != 0:
        answers.append(_end(status))
    return answers


def _listen(pipe: int, programs: int, seconds: float) -> list[Answer]:
    """What the child said until all programs were judged, it ended, or nothing came for so many seconds."""
    said = b""
    while said.count(b"\n") < programs and select.select([pipe], [], [], seconds)[0]:
        more = os.read(pipe, 65_536)
        if not more:
            break
        said += more
    answers: list[list[Any]] = [json.loads(line) for line in said.split(b"\n")[:-1]]
    return [(str(result), str(detail)) for result, detail in answers]


def _end(status: int) -> Answer:
    """The answer of a program that ended its process."""
    ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no result"
    if ended in ("SIGPROF", "SIGXCPU", "SIGKILL"):
        return "timeout", "the time is used up"
    return "error", f"the process ended: {ended}"
