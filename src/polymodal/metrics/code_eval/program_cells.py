"""Cells whose answer is a program: the program, and beside it what it is scored by.

A cell of the task `text` may hold several texts, of which the first is learned and all are read by the scores. So the
means to score a program travel with it, as a second text that begins with a line by which it is known:

    a program to be written    ["def solve(x): ...", "# tests" and the tests]
    tests to be written        ["assert ...", "# program" and the program, then "# mutant" and a broken one, ...]

Scores that compare texts (`chrf`, `bleu`) read the second text as one more reference; `exact_match` can only be met
by the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TESTS, PROGRAM, MUTANT = "# tests\n", "# program\n", "# mutant\n"


def program_cell(program: str, tests: str) -> list[str]:
    """The cell of a program to be written."""
    return [program, TESTS + tests]


def suite_cell(tests: str, program: str, mutants: Iterable[str]) -> list[str]:
    """The cell of tests to be written: for a program, and to tell it from its mutants."""
    return [tests, PROGRAM + "".join(f"{one}\n{MUTANT}" for one in (program, *mutants)).removesuffix(f"\n{MUTANT}")]


def read_tests(cell: Sequence[str]) -> str | None:
    """The tests that stand in the cell of a program; None if there are none."""
    return next((text.removeprefix(TESTS) for text in cell if text.startswith(TESTS)), None)


def read_programs(cell: Sequence[str]) -> list[str] | None:
    """The program and its mutants that stand in a cell of tests; None if there are none."""
    found = next((text for text in cell if text.startswith(PROGRAM)), None)
    return None if found is None else found.removeprefix(PROGRAM).split(f"\n{MUTANT}")
