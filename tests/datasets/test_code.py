"""The generated functions do what their descriptions say, broken ones are broken, and tests to be written can tell."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from polymodal.datasets.functions import make_functions
from polymodal.datasets.repairs import PLANTED, make_repairs, make_test_suites, mistaken, mutants
from polymodal.metrics.code_eval.program_cells import TESTS, program_cell, read_programs, read_tests, suite_cell
from polymodal.metrics.code_eval.sandbox import Program, run

SQUARES = """def solve(numbers):
    result = 0
    for x in numbers:
        if x % 2 == 0:
            result += x ** 2
    return result"""


@pytest.mark.parametrize("make", [make_functions, make_repairs, make_test_suites])
def test_seeded_and_of_the_asked_length(make: Callable[..., dict[str, list]]) -> None:
    one = make(20, seed=1)
    assert {len(cells) for cells in one.values()} == {20}
    assert make(20, seed=1) == one
    assert make(20, seed=2) != one


def test_programs_pass_the_tests_that_were_made_without_running_them() -> None:
    columns = make_functions(600, seed=0)
    outcomes = run([Program(*pair) for pair in zip(columns["program"], columns["tests"], strict=True)])
    assert {outcome.result for outcome in outcomes} == {"passed"}
    assert len(set(columns["combination"])) > 300
    for program, cell, tests in zip(columns["program"], columns["answer"], columns["tests"], strict=True):
        assert cell[0] == program
        assert read_tests(cell) == tests
        assert ast.unparse(ast.parse(program)) == program


def test_a_description_has_one_meaning() -> None:
    columns = make_functions(3000, seed=0)
    meaning: dict[str, str] = {}
    for description, program in zip(columns["description"], columns["program"], strict=True):
        assert meaning.setdefault(description, program) == program
    assert len(set(meaning.values())) == len(meaning)  # and different descriptions ask for different programs


def test_tests_tell_functions_apart() -> None:
    columns = make_functions(200, seed=3)
    neighbours = [*columns["program"][1:], columns["program"][0]]
    outcomes = run([Program(*pair) for pair in zip(neighbours, columns["tests"], strict=True)])
    same = [a == b for a, b in zip(neighbours, columns["program"], strict=True)]
    assert sum(outcome.passed for outcome in outcomes) - sum(same) <= 10


def test_mutants_differ_by_one_mistake_and_the_program_is_left_alone() -> None:
    found = mutants(SQUARES)
    programs = [mutant for _, mutant in found]
    assert SQUARES not in programs
    assert len(set(programs)) == len(programs)
    by_kind = {kind: [one for name, one in found if name == kind] for kind in dict(found)}
    assert SQUARES.replace("==", "!=") in by_kind["comparison"]
    assert SQUARES.replace("+=", "-=") in by_kind["operator"]
    assert SQUARES.replace("% 2", "% 3") in by_kind["constant"]
    assert SQUARES.replace("return result", "return x") in by_kind["name"]
    assert SQUARES.replace("numbers:", "numbers") in by_kind["colon"]
    assert SQUARES.replace("==", "=") in by_kind["equals"]
    assert SQUARES.replace("    return", "        return") in by_kind["return"]
    for kind, mutant in mistaken(SQUARES):
        ast.parse(mutant)
        if kind != "condition":
            changed = [a != b for a, b in zip(mutant.splitlines(), SQUARES.splitlines(), strict=True)]
            assert sum(changed) == 1


def test_broken_programs_say_what_their_message_says_and_the_right_ones_pass() -> None:
    columns = make_repairs(150, seed=0)
    broken = run([Program(*pair) for pair in zip(columns["broken"], columns["tests"], strict=True)])
    assert [outcome.detail for outcome in broken] == columns["message"]
    assert not any(outcome.passed for outcome in broken)
    right = run([Program(*pair) for pair in zip(columns["program"], columns["tests"], strict=True)])
    assert all(outcome.passed for outcome in right)
    assert len(set(columns["kind"])) >= 10
    assert any(message.startswith("assert solve(") for message in columns["message"])
    assert any(message.startswith("SyntaxError: ") for message in columns["message"])


def test_planted_mutants_are_caught_by_the_tests_beside_them() -> None:
    columns = make_test_suites(40, seed=0)
    expected, programs = [], []
    for tests, program, cell in zip(columns["tests"], columns["program"], columns["answer"], strict=True):
        assert cell[0] == tests
        known = read_programs(cell)
        assert known is not None
        assert known[0] == program
        assert 1 < len(known) <= PLANTED + 1
        programs += [Program(one, tests) for one in known]
        expected += [True] + [False] * (len(known) - 1)
    assert [outcome.passed for outcome in run(programs)] == expected


def test_cells_carry_what_scores_them() -> None:
    assert program_cell("def f(): pass", "assert f() is None") == ["def f(): pass", "# tests\nassert f() is None"]
    assert read_tests(["def f(): pass"]) is None
    assert read_programs(["assert f()", TESTS]) is None
    assert read_programs(suite_cell("assert f()", "one\ntwo", ["three", "four"])) == ["one\ntwo", "three", "four"]
    assert read_programs(suite_cell("assert f()", "one", [])) == ["one"]
