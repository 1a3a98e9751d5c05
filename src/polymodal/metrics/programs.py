"""Scores of written code: whether it runs, does what it should, or looks as it should.

They are metrics of texts: object arrays `[rows]` of str (None: no answer, scored as the empty text) against object
arrays `[rows]` of tuples of references. What a program is scored by stands in its references (`data.program_cells`):
its tests, or, where tests are written, the program and its mutants. A page is scored against the page that was wanted.

Programs run in the sandbox (`polymodal.sandbox`): each once for all resamples of a bootstrap.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace

import numpy as np

from polymodal.data.program_cells import read_programs, read_tests
from polymodal.data.synthetic_page_language import PageError, parse, walk
from polymodal.data.synthetic_page_renderer import render
from polymodal.errors import DataError
from polymodal.metrics.base import Metric
from polymodal.metrics.text.facts import fact_f1
from polymodal.metrics.text.pairs import pairs
from polymodal.metrics.text.sums import mean_of_rows
from polymodal.sandbox import Program, run

#: Characters of a program beyond which it does not count as one.
LONGEST = 20_000


def renders() -> Metric:
    """The share of pages that are in the small language and so can be drawn (`data.synthetic_page_language`)."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([_picture(text) is not None for text, _ in pairs(distribution, truth)])

    return mean_of_rows("renders", scores)


def pixels() -> Metric:
    """The mean likeness of the page's picture to that of the wanted page, 0 to 1.

    With the ink of a pixel's channel, a = 255 - value, of the one and b of the other picture, the likeness is
    sum min(a, b) / sum max(a, b), the weighted Jaccard index: 1 for equal pictures, 0 for an empty page and for one
    that does not render. White ground, which all pages share, counts nothing, so the number is far stricter than a mean
    difference; a text that lies one line too low is a miss. Of several references the likest counts.

    Source: Ioffe, "Improved Consistent Sampling, Weighted Minhash and L1 Sketching", ICDM 2010.
    """

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array(
            [
                max(_likeness(_picture(text), _wanted(one, row)) for one in references)
                for row, (text, references) in enumerate(pairs(distribution, truth))
            ]
        )

    return mean_of_rows("pixels", scores)


def elements() -> Metric:
    """F1 of a page's elements over a corpus: tag, the tags it lies in, colour and text must be right, its place need
    not. A page that is not in the small language has none."""
    return replace(fact_f1(_elements), name="elements")


def parses() -> Metric:
    """The share of texts that are Python by their syntax."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([_is_python(text) for text, _ in pairs(distribution, truth)])

    return mean_of_rows("parses", scores)


def passes() -> Metric:
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

    return mean_of_rows("passes", scores)


def holds() -> Metric:
    """The share of written tests that the right program passes. Tests that test nothing hold: see `mutation_score`."""
    return mean_of_rows("holds", lambda distribution, truth: _suite_outcomes(distribution, truth)[0])


def mutation_score() -> Metric:
    """The mean share of mutants that written tests catch; tests that the right program fails catch none.

    Source: DeMillo, Lipton and Sayward, "Hints on Test Data Selection: Help for the Practicing Programmer", IEEE
    Computer, 1978.
    """
    return mean_of_rows("mutation_score", lambda distribution, truth: _suite_outcomes(distribution, truth)[1])


def _picture(page: str) -> np.ndarray | None:
    """`[height, width, 3]` ink, 0 to 255; None for a page that is not in the language."""
    try:
        return 255 - np.asarray(render(page), dtype=np.int64)
    except PageError:
        return None


def _wanted(page: str, row: int) -> np.ndarray:
    picture = _picture(page)
    if picture is None:
        raise DataError("the reference is not a page of the small language", row=row)
    return picture


def _likeness(found: np.ndarray | None, wanted: np.ndarray) -> float:
    if found is None:
        return 0.0
    ink = np.maximum(found, wanted).sum()
    return float(np.minimum(found, wanted).sum() / ink) if ink else 1.0


def _elements(page: str) -> set:
    """The elements of a page; equal ones are numbered, so that each counts."""
    try:
        found = [(path, element.colour, element.text) for path, element in walk(parse(page))]
    except PageError:
        return set()
    seen: Counter[tuple[str, str, str]] = Counter()
    numbered = set()
    for one in found:
        seen[one] += 1
        numbered.add((*one, seen[one]))
    return numbered


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
