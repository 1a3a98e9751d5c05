"""Scores of written programs and of written tests, by running them in the sandbox (`metrics.code_eval.sandbox`).

What a program is scored by stands in its references (`program_cells`): its tests, or, where tests are written,
the program and its mutants. Each runs once for all resamples of a bootstrap.
"""

from __future__ import annotations

import ast

import numpy as np

from polymodal.core.errors import DataError
from polymodal.metrics.base import Metric
from polymodal.metrics.code_eval.program_cells import read_programs, read_tests
from polymodal.metrics.code_eval.sandbox import Program, run
from polymodal.metrics.text.base import row_mean_metric, pairs

#: Characters of a program beyond which it does not count as one.
LONGEST = 20_000


def syntax_validity() -> Metric:
    """The share of texts that are Python by their syntax."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([_is_python(text) for text, _ in pairs(distribution, truth)])

    return row_mean_metric("syntax_validity", scores)


def pass_at_1() -> Metric:
    """The share of programs that pass all the tests of their cell, run in the sandbox.

    Raises:
        DataError: the references of a row hold no tests.
    """

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        programs = []
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            tests = read_tests(references)
            if tests is None:
                raise DataError("no reference holds tests to run: it begins with the line '# tests'", row=row)
            programs.append(Program(text, tests))
        return np.array([outcome.passed for outcome in run(programs)])

    return row_mean_metric("pass@1", scores)


def suite_validity() -> Metric:
    """The share of written tests that the right program passes. Tests that test nothing hold: see `mutation_score`."""
    return row_mean_metric("suite_validity", lambda distribution, truth: _suite_outcomes(distribution, truth)[0])


def mutation_score() -> Metric:
    """The mean share of mutants that written tests catch; tests that the right program fails catch none.

    Source: DeMillo, Lipton and Sayward, "Hints on Test Data Selection: Help for the Practicing Programmer", IEEE
    Computer, 1978.
    """
    return row_mean_metric("mutation_score", lambda distribution, truth: _suite_outcomes(distribution, truth)[1])


def _is_python(text: str) -> bool:
    if not text or len(text) > LONGEST:
        return False
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _suite_outcomes(distribution: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the written tests of each row hold, and the share of mutants that they catch."""
    programs: list[Program] = []
    counts = []
    for row, (text, references) in enumerate(pairs(distribution, truth)):
        known = read_programs(references)
        if known is None or len(known) < 2:
            raise DataError("no reference holds a program with mutants: it begins with the line '# program'", row=row)
        programs += [Program(code, text) for code in known]
        counts.append(len(known))
    passed = np.array([outcome.passed for outcome in run(programs)], dtype=bool)
    rows = np.split(passed, np.cumsum(counts)[:-1])
    held = np.array([one[0] for one in rows])
    return held, np.array([one[0] and np.mean(~one[1:]) for one in rows])
