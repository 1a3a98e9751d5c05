"""Run programs in the sandbox."""

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
from polymodal.core.formatting import escape_controls

Result = Literal["passed", "failed", "error", "timeout", "forbidden"]

_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from polymodal.metrics.code_eval.sandbox.worker import main; main()"
)


@dataclass(frozen=True)
class Program:
    """A program and its tests, which run after it: `assert` statements on its functions.

    Tests read the names of the program and assign their own. A builtin in the tests is Python's, also if the program
    defines its name. Only if the tests mention no other names do they test a function that is called like a builtin,
    as in `assert sum(10, 15) == 25`.
    """

    code: str
    tests: str = ""


@dataclass(frozen=True)
class Limits:
    """Limits of one program: `seconds` of processor time, `memory` in MiB beyond that of an empty process."""

    seconds: float = 1.0
    memory: int = 256


@dataclass(frozen=True)
class Outcome:
    """Result of a program.

    result: `passed`; `failed` (an assertion of its tests fails; `detail` is its line); `error` (it raises an exception
        or is not valid Python; `detail` is the exception with its message); `timeout`; `forbidden` (it violates the
        rules; `detail` is the reason). Control characters of a detail are escaped
    """

    result: Result
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.result == "passed"


def run(programs: Sequence[Program], limits: Limits | None = None) -> list[Outcome]:
    """Run programs; returns the outcome of each, in order. Thousands per second; no program affects the others.

    The hash seed is fixed, so that the order of sets is reproducible.

    Raises:
        PolymodalError: the sandbox cannot be started (it needs Linux), or its process ended.

    Example:
        >>> run([Program("def double(x): return 2 * x", "assert double(2) == 4")])
        [Outcome(result='passed', detail='')]
    """
    if not sys.platform.startswith("linux"):
        raise PolymodalError("generated programs can be run only on Linux, whose resource limits the sandbox needs")
    if not programs:
        return []
    limits = limits or Limits()
    job = {
        "programs": [(_replace_surrogates(one.code), _replace_surrogates(one.tests)) for one in programs],
        "seconds": limits.seconds,
        "memory": limits.memory,
    }
    root = Path(__file__).parents[4]
    with TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                [sys.executable, "-s", "-S", "-P", "-B", "-c", _BOOTSTRAP, str(root)],
                input=json.dumps(job).encode(),
                capture_output=True,
                cwd=empty,
                env={"PYTHONHASHSEED": "0"},
                start_new_session=True,
                timeout=60 + len(programs) * (20 * limits.seconds + 6),
                check=True,
            )
        except subprocess.SubprocessError as error:
            stderr = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
            raise PolymodalError(f"the sandbox ended before its programs: {stderr[-1] if stderr else error}") from error
    results = [json.loads(line) for line in done.stdout.splitlines()]
    if len(results) != len(programs) or any(result not in get_args(Result) for result, _ in results):
        raise PolymodalError("the sandbox returned invalid results")
    return [Outcome(result, escape_controls(detail)) for result, detail in results]


def _replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which Python source cannot contain, by a character that is not valid Python."""
    return text.encode("utf-8", "replace").decode("utf-8")
