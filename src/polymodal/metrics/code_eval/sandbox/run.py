"""Run many programs and say of each what became of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from polymodal.core.errors import PolymodalError

Result = Literal["passed", "failed", "error", "timeout", "refused"]

_START = "import sys; sys.path.append(sys.argv[1]); from polymodal.metrics.code_eval.sandbox.worker import main; main()"


@dataclass(frozen=True)
class Program:
    """A program and the tests that are run after it, in the same namespace: `assert` statements on its functions."""

    code: str
    tests: str = ""


@dataclass(frozen=True)
class Limits:
    """What one program may use: `seconds` of processor time, `memory` in MiB."""

    seconds: float = 1.0
    memory: int = 256


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    result: `passed`; `failed` (an assertion of its tests does not hold: `detail` is that line); `error` (it raised
        something or is not Python: `detail` is the exception and its message); `timeout`; `refused` (it uses what the
        rules do not allow: `detail` says what)
    """

    result: Result
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.result == "passed"


def run(programs: Sequence[Program], limits: Limits | None = None) -> list[Outcome]:
    """The outcome of each program, in order. Thousands a second, and one that fails disturbs no other.

    Texts are hashed alike in every run, so the order of sets is always the same.

    Raises:
        PolymodalError: the sandbox cannot be started here (it needs Linux), or its process ended.
    """
    if not sys.platform.startswith("linux"):
        raise PolymodalError("programs that a model wrote are run on Linux only: its limits are what holds them")
    if not programs:
        return []
    limits = limits or Limits()
    work = {
        "programs": [(_plain(one.code), _plain(one.tests)) for one in programs],
        "seconds": limits.seconds,
        "memory": limits.memory,
    }
    root = Path(__file__).parents[4]
    with TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                [sys.executable, "-s", "-S", "-P", "-B", "-c", _START, str(root)],
                input=json.dumps(work).encode(),
                capture_output=True,
                cwd=empty,
                env={"PYTHONHASHSEED": "0"},
                start_new_session=True,
                timeout=60 + len(programs) * (20 * limits.seconds + 6),
                check=True,
            )
        except subprocess.SubprocessError as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
            raise PolymodalError(f"the sandbox ended before its programs: {said[-1] if said else error}") from error
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != len(programs) or any(result not in get_args(Result) for result, _ in answers):
        raise PolymodalError("the sandbox gave no sound answer for each program")
    return [Outcome(result, detail) for result, detail in answers]


def _plain(text: str) -> str:
    """Text without lone surrogates, which no file of Python can hold; they become a character that is no Python."""
    return text.encode("utf-8", "replace").decode("utf-8")
