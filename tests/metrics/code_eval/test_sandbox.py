"""The sandbox: the right result for each kind of program, none of which disturbs another or reaches the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import polymodal
from polymodal.core.errors import PolymodalError
from polymodal.metrics.code_eval.sandbox import Limits, Outcome, Program, run
from polymodal.metrics.code_eval.sandbox.rules import MAX_CHARACTERS

INCREASE = "def increase(x):\n    return x + 1"
RIGHT = Program(INCREASE, "assert increase(1) == 2")
#: Programs that want what the rules do not give, most of them known ways out of such rules.
FORBIDDEN = [
    "import os",
    "import math as m, sys",
    "from os import path",
    "from collections import OrderedDict",
    "from math import *",
    "from . import x",
    "open('a')",
    "eval('1')",
    "exec('1')",
    "compile('1', '', 'eval')",
    "getattr(1, 'real')",
    "globals()",
    "breakpoint()",
    "().__class__",
    "x = __builtins__",
    "__import__('os')",
    "def f(__x): pass",
    "import math as __m",
    "def f():\n    global __builtins__",
    "try:\n    1 / 0\nexcept Exception as __e:\n    pass",
    "'{0.__class__}'.format(1)",
    "'{x.__class__}'.format_map({'x': 1})",
    "def g():\n    yield 1\ng().gi_frame",
    "(lambda: 1).func_globals",
    "class A: pass",
    "match 1:\n    case int(real=1): pass",
    "async def f(): pass",
    "with 1: pass",
    "import math\nmath.pi = 3",
    "import re\nre.enum",
    "import collections\ncollections.abc",
    "@property\ndef f(): pass",
    "x = 1\n" * MAX_CHARACTERS,
]
#: Programs that do harm by running, and what becomes of them.
HARMFUL = {
    "while True: pass": "timeout",
    "10 ** 10 ** 9": "timeout",
    "import re\nre.match('(a+)+b', 'a' * 60)": "timeout",
    "x = [0] * 10 ** 9": "error",
    "x = 'a'\nwhile True: x += x": "error",
    "def f(): return f()\nf()": "error",
    "1 / 0": "error",
    "def f(:": "error",
    "(" * 500: "error",
    "-" * 10_000 + "1": "error",
    "x = 1\0": "error",
    "x = \ud800": "error",
    "raise ValueError(10 ** 5000)": "error",
    "try:\n    1 / 0\nexcept ArithmeticError as e:\n    raise ValueError(e)": "error",
}


def test_each_kind_of_result() -> None:
    programs = [
        RIGHT,
        Program(INCREASE, "assert increase(1) == 2\n\nassert increase(2) == 2, 'no'"),
        Program(INCREASE, "assert increase('a') == 2"),
        Program("assert 1 == 2", "assert True"),
        Program(INCREASE, "assert increase(1) =="),
        Program("import os", ""),
        Program("", "import os"),
    ]
    assert run(programs) == [
        Outcome("passed"),
        Outcome("failed", "assert increase(2) == 2, 'no'"),
        Outcome("error", 'TypeError: can only concatenate str (not "int") to str'),
        Outcome("error", "AssertionError: "),  # of the program, not of its tests
        Outcome("error", "SyntaxError: invalid syntax (line 1)"),
        Outcome("forbidden", "line 1: import of os is not allowed"),
        Outcome("forbidden", "line 1: import of os is not allowed"),
    ]
    assert run([]) == []


def test_what_the_rules_forbid_is_refused() -> None:
    outcomes = run([Program(code) for code in FORBIDDEN])
    assert [code for code, outcome in zip(FORBIDDEN, outcomes, strict=True) if outcome.result != "forbidden"] == []


def test_what_the_rules_allow_runs() -> None:
    allowed = [
        "import math\nfrom collections import Counter, deque\nassert math.gcd(4, 6) == Counter('aab')['a']",
        "import itertools as i\nassert list(i.accumulate([1, 2])) == [1, 3]\nfrom functools import reduce",
        "import re\nassert re.match('(a)b', 'ab').group(1) == 'a'",
        "def g(n):\n    for i in range(n):\n        yield i\nassert [*g(2)] == [0, 1] and f'{3!r:>2}' == ' 3'",
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    assert e.args\nfinally:\n    print('x' * 10 ** 6)",
        "id = 1\ninput = lambda vars: vars\nassert input(id) == 1",  # names that the program itself gives a meaning
    ]
    assert {outcome.result for outcome in run([Program(code) for code in allowed])} == {"passed"}


def test_harm_is_stopped_and_disturbs_no_other() -> None:
    programs = [one for code in HARMFUL for one in (Program(code), RIGHT)]
    outcomes = run(programs, Limits(seconds=0.3, memory=96))
    assert [outcome.result for outcome in outcomes[::2]] == list(HARMFUL.values())
    assert {outcome.result for outcome in outcomes[1::2]} == {"passed"}


def test_programs_do_not_see_each_other() -> None:
    outcomes = run([Program("secret = 1"), Program("assert secret == 1"), Program("print = 1"), Program("print(2)")])
    assert [outcome.result for outcome in outcomes] == ["passed", "error", "passed", "passed"]


def test_results_are_the_same_in_every_run() -> None:
    order = Program("def f():\n    return ''.join({'a', 'b', 'c', 'd', 'e'})", "assert f() == ''")
    shown = Program("raise ValueError(''.join({'a', 'b', 'c', 'd', 'e', 'f'}))")
    assert run([order, shown]) == run([order, shown])


def test_limits_are_those_that_were_asked_for() -> None:
    large = [Program("x = [0] * (20 * 2 ** 20)")]  # 160 MiB
    assert run(large, Limits(memory=100))[0].detail.startswith("MemoryError")
    assert run(large, Limits(memory=400))[0].passed


_OUTSIDE_THE_RULES = """
import os, sys
sys.path.append(sys.argv[1])
from polymodal.metrics.code_eval.sandbox.confine import filter_system_calls, set_limits
import socket
set_limits(5, 512)
filtered = filter_system_calls()
attempts = {
    "read a file": lambda: open("/etc/hostname").read(),
    "write a file": lambda: open("made", "w").write("x"),
    "remove a file": lambda: os.unlink(sys.argv[2]),
    "list a folder": lambda: os.listdir("/"),
    "reach the network": lambda: socket.socket(),
    "start a process": lambda: os.fork() or os._exit(0),
    "become a program": lambda: os.execv("/bin/true", ["true"]),
    "end another": lambda: os.kill(os.getppid(), 0),
}
for name, attempt in attempts.items():
    try:
        attempt()
        print("could", name)
    except OSError as error:
        pass
print("filtered" if filtered else "unfiltered")
"""


def test_the_kernel_refuses_what_breaks_out_of_the_rules(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("x")
    root = Path(polymodal.__file__).parents[1]
    command = [sys.executable, "-c", _OUTSIDE_THE_RULES, str(root), str(kept)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True).stdout.splitlines()
    if said[-1] == "unfiltered":
        pytest.skip("this system has no filter of system calls")
    assert said == ["filtered"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_sandbox_that_cannot_be_started_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PolymodalError, match="ended before its programs"):
        run([RIGHT])
