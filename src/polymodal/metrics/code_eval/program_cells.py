"""Table cells with a target program and its evaluation data.

A cell of the task `text_generation` may hold several texts. The first is the training target; metrics read all. The
evaluation data is therefore a second text that begins with a marker line:

    program to generate    ["def solve(x): ...", "# tests" and the tests]
    tests to generate      ["assert ...", "# program" and the program, then "# mutant" and a broken one, ...]

Text metrics (`chrf`, `bleu`) read the second text as one more reference; `exact_match` can be reached only with the
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TESTS, PROGRAM, MUTANT = "# tests\n", "# program\n", "# mutant\n"


def program_cell(program: str, tests: str) -> list[str]:
    """Cell with a program to generate."""
    return [program, TESTS + tests]


def suite_cell(tests: str, program: str, mutants: Iterable[str]) -> list[str]:
    """Cell with tests to generate for a program; they should fail on its mutants."""
    return [tests, PROGRAM + "".join(f"{one}\n{MUTANT}" for one in (program, *mutants)).removesuffix(f"\n{MUTANT}")]


def read_tests(cell: Sequence[str]) -> str | None:
    """Tests in the cell of a program; None without tests."""
    return next((text.removeprefix(TESTS) for text in cell if text.startswith(TESTS)), None)


def read_programs(cell: Sequence[str]) -> list[str] | None:
    """Program and mutants in a cell of tests; None without them."""
    text = next((text for text in cell if text.startswith(PROGRAM)), None)
    return None if text is None else text.removeprefix(PROGRAM).split(f"\n{MUTANT}")
