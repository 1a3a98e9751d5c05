"""Metrics of generated programs and tests, which run in the sandbox (`metrics.code_eval.sandbox`).

The references of a row hold what is needed (`program_cells`): the tests of a program or, for generated tests, the
program and its mutants. Each runs once for all resamples of a bootstrap.
"""

from __future__ import annotations

import ast

import numpy as np

from polymodal.core.errors import DataError
from polymodal.metrics.base import Metric
from polymodal.metrics.code_eval.program_cells import read_programs, read_tests
from polymodal.metrics.code_eval.sandbox import Program, run
from polymodal.metrics.text.base import pairs, row_mean_metric

#: Maximum number of characters of a program.
MAX_CHARACTERS = 20_000


def syntax_validity() -> Metric:
    """Fraction of texts with valid Python syntax."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([_is_python(text) for text, _ in pairs(distribution, truth)])

    return row_mean_metric("syntax_validity", scores)


def pass_at_1() -> Metric:
    """Fraction of programs that pass all tests of their cell, run in the sandbox (pass@1 with one sample).

    Raises:
        DataError: the references of a row hold no tests.
    """

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        programs = []
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            tests = read_tests(references)
            if tests is None:
                raise DataError("no reference holds tests; it must begin with the line '# tests'", row=row)
            programs.append(Program(text, tests))
        return np.array([outcome.passed for outcome in run(programs)])

    return row_mean_metric("pass@1", scores)


def suite_validity() -> Metric:
    """Fraction of generated test suites that the correct program passes. Suites without assertions pass too; see
    `mutation_score`."""
    return row_mean_metric("suite_validity", lambda distribution, truth: _suite_outcomes(distribution, truth)[0])


def mutation_score() -> Metric:
    """Mean fraction of mutants that generated tests detect; tests that the correct program fails detect none.

    Source: DeMillo, Lipton and Sayward, "Hints on Test Data Selection: Help for the Practicing Programmer", IEEE
    Computer, 1978.
    """
    return row_mean_metric("mutation_score", lambda distribution, truth: _suite_outcomes(distribution, truth)[1])


def _is_python(text: str) -> bool:
    if not text or len(text) > MAX_CHARACTERS:
        return False
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _suite_outcomes(distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the generated tests of each row pass on the program, and the fraction of mutants that they detect."""
    programs: list[Program] = []
    counts = []
    for row, (text, references) in enumerate(pairs(distribution, truth)):
        codes = read_programs(references)
        if codes is None or len(codes) < 2:
            raise DataError(
                "no reference holds a program with mutants; it must begin with the line '# program'", row=row
            )
        programs += [Program(code, text) for code in codes]
        counts.append(len(codes))
    passed = np.array([outcome.passed for outcome in run(programs)], dtype=bool)
    rows = np.split(passed, np.cumsum(counts)[:-1])
    valid = np.array([outcomes[0] for outcomes in rows])
    return valid, np.array([outcomes[0] and np.mean(~outcomes[1:]) for outcomes in rows])
