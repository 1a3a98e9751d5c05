"""The sandbox: the result of a program does not depend on other programs, and its tests do not depend on its names."""

from __future__ import annotations

import contextlib
import random
import unicodedata

import pytest

from polymodal.metrics.code_eval.sandbox import Limits, Outcome, Program, run
from polymodal.metrics.code_eval.sandbox.rules import namespace, parse

LIMITS = Limits(seconds=0.3, memory=128)
SQUARE = "def f(i):\n    return i * i"
#: Programs that leave something behind, and programs that would notice.
NEIGHBORS = [
    Program("x = [0] * 10_000_000\ndef f(): return x", "assert f()"),  # 80 MB in a cycle
    Program("x = []\nx.append(x)\nx.append([0] * 10_000_000)"),
    Program("x = [str(i) for i in range(500_000)]\ndef f(): return x"),  # many small objects
    Program("def f():\n    return len([0] * 12_000_000)", "assert f() == 12_000_000"),
    Program("def f():\n    return len({i: i for i in range(300_000)})", "assert f() == 300_000"),
    Program("try:\n    x = [0] * 12_000_000\nexcept Exception:\n    x = []", "assert len(x) == 12_000_000"),
    Program("try:\n    x = [0] * 20_000_000\nexcept Exception:\n    x = []", "assert x == []"),
    Program("x = 'a' * 10 ** 9"),
    Program("def g():\n try:\n  yield\n finally:\n  while 1: pass\nx = g()\nnext(x)\ny = [x]\ny.append(y)"),
    Program("def f(): return f()\nf()"),
    Program("def f(n): return n and f(n - 1)\ntry:\n    f(10 ** 6)\nexcept RecursionError:\n    pass"),
    Program("import re\nx = [re.match('a' * i + '+', 'a') for i in range(200)]"),
    Program("import re\nassert re.match('(a|b)+', 'abab').span() == (0, 4)"),
    Program("print = len = sum = sorted = None\nimport math, itertools\nmath = itertools = 1"),
    Program("import math, itertools\nprint(len([1]), sum([1]))", "assert math.pi > 3"),
    Program("from collections import Counter\nCounter = list", "assert Counter('ab') == ['a', 'b']"),
    Program("from collections import Counter", "assert Counter('ab') == {'a': 1, 'b': 1}"),
    Program("def f(): pass\nraise ValueError(f)"),
    Program("while True: pass"),
    Program("1 / 0"),
    Program("import os"),
    Program(SQUARE, "assert f(2) == 4"),
    Program(SQUARE, "assert f(2) == 5"),
    Program("secret = 1"),
    Program("secret", "assert secret"),
]


def test_alone_and_together_in_any_order_the_results_are_the_same() -> None:
    alone = [run([program], LIMITS)[0] for program in NEIGHBORS]
    assert {outcome.result for outcome in alone} == {"passed", "failed", "error", "timeout", "forbidden"}
    generator = random.Random(0)
    for _ in range(3):
        chosen = generator.choices(range(len(NEIGHBORS)), k=30)
        together = run([NEIGHBORS[index] for index in chosen], LIMITS)
        for index, outcome in zip(chosen, together, strict=True):
            assert outcome == alone[index], NEIGHBORS[index]


@pytest.mark.parametrize("together", [0, 40_000])
def test_the_memory_of_a_program_does_not_depend_on_the_number_of_programs(together: int) -> None:
    program = Program("x = [0] * (11 * 2 ** 20)")  # 88 MiB of 96
    other = Program("1" * 1000)
    assert run([program, *[other] * (together // 100)], Limits(memory=96))[0].passed


def test_names_with_any_letters_are_valid() -> None:
    programs = [
        Program("é = 1\nassert é == 1"),
        Program("def größe(ﬁ): return fi", "assert größe(1) == 1"),  # Python reads the ligature as two letters
        Program("x = '\\N{BULLET}'", "assert x == '•'"),
        Program("import re\nassert re.match(r'\\N{BULLET}', '•')"),
        Program("变量 = [1]\n变量.append(2)", "assert 变量 == [1, 2]"),
    ]
    assert run(programs) == [Outcome("passed")] * len(programs)


def test_a_program_cannot_change_the_builtins_of_its_tests() -> None:
    wrong = "def f(i):\n    return 0\n"
    tests = {
        "all": "assert all(f(i) == i * i for i in range(5))",
        "any": "assert not any(f(i) != i * i for i in range(5))",
        "len": "assert len([1 for i in range(5) if f(i) == i * i]) == 5",
        "range": "for i in range(5):\n    assert f(i) == i * i",
        "sum": "def check(g):\n    assert sum(map(g, [1, 2])) == 5\ncheck(f)",
        "list": "assert list(map(f, [1, 2])) == [1, 4]",
        "AssertionError": "assert f(2) == 4",
    }
    for name, text in tests.items():
        for redefined in (f"def {name}(*x): return 1", f"def {name}(*x): return []", f"{name} = lambda *x: True"):
            cheat, right = run([Program(wrong + redefined, text), Program(f"{SQUARE}\n{redefined}", text)])
            assert cheat.result == "failed", (redefined, cheat)
            assert right.result == "passed", (redefined, right)
    absent = run([Program("def all(x): return True", tests["all"])])[0]
    assert absent == Outcome("error", "NameError: name 'f' is not defined")


def test_a_function_with_the_name_of_a_builtin_can_be_tested() -> None:
    programs = [
        Program("def sum(a, b):\n    return a + b", "assert sum(10, 15) == 25"),
        Program("def sum(a, b):\n    return a", "assert sum(10, 15) == 25"),
        Program("def hash(text):\n    return len(text)", "assert hash('ab') == 2"),  # a builtin that is not allowed
        Program("x = 1", "assert hash('ab') == 2"),
    ]
    assert [outcome.result for outcome in run(programs)] == ["passed", "failed", "passed", "forbidden"]


def test_tests_read_the_names_of_the_program_and_assign_their_own() -> None:
    programs = [
        Program("count = 0\ndef f():\n    global count\n    count += 1", "f()\nf()\nassert count == 2"),
        Program("def helper(): return 1\ndef f(): return helper()", "def helper(): return 2\nassert f() == 1"),
        Program("def f(x): return math.sqrt(x)", "import math\nassert f(4) == math.sqrt(4)"),
        Program("from collections import Counter\ndef f(x): return Counter(x)", "assert f('a') == Counter('a')"),
    ]
    assert [outcome.result for outcome in run(programs)] == ["passed", "passed", "error", "passed"]


def test_what_the_rules_allow_behaves_as_in_python() -> None:
    """Every method and function that programs may call, with several arguments: the exception has the same type."""
    values = ["'aé'", "b'ab'", "[2, 1]", "{1: 2}", "{1, 2}", "(1, 2)", "7 ** 4000", "1.5"]
    arguments = ["", "1", "'a'", "'aé', 'utf-16'", "'idna'", "'cp1252'", "3 ** 2000", "[1], [2]", "'{}'"]
    codes = [
        f"x = {value}\nx.{name}({argument})"
        for value in values
        for name in dir(eval(value))
        if not name.startswith("_")
        for argument in arguments
    ]
    modules = {"math": "math", "itertools": "itertools", "re": "re", "collections": "collections.Counter('aab')"}
    codes += [
        f"import {module}\nnext(iter({owner}.{name}({argument})))"
        for module, owner in modules.items()
        for name in dir(eval(owner, {"__builtins__": {}, module: __import__(module)}) if "(" not in owner else dict)
        if not name.startswith("_") and name not in ("count", "cycle", "repeat", "perm", "comb", "factorial", "purge")
        for argument in arguments
    ]
    expected, allowed = [], []
    for code in codes:
        with contextlib.suppress(Exception):
            tree = parse(code)
            allowed.append(code)
            try:
                exec(compile(tree, "<program>", "exec"), namespace())
                expected.append("")
            except Exception as error:  # noqa: BLE001  # any exception is its result
                expected.append(type(error).__name__)
    got = [outcome.detail.partition(":")[0] for outcome in run([Program(code) for code in allowed])]
    assert len(allowed) > 1000
    assert [(c, e, g) for c, e, g in zip(allowed, expected, got, strict=True) if e != g] == []


def test_details_hold_no_control_characters() -> None:
    characters = "".join(map(chr, [*range(32), *range(127, 160), 0x202E, 0x2066, 0x2028, 0xD800]))
    programs = [
        Program(f"raise ValueError({characters!r})"),
        Program("x = 1", "assert x == 2, '\x1b[2J\x9b1m\u202e'"),
        Program("raise ValueError(['\\x1b'])"),
    ]
    for outcome in run(programs):
        assert not [sign for sign in outcome.detail if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl")], outcome
    assert run(programs)[1].detail == r"assert x == 2, '\x1b[2J\x9b1m\u202e'"
