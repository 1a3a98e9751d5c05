"""Scores of written code: what is right scores 1, what does nothing scores 0, and what is half right lies between."""

from __future__ import annotations

import numpy as np
import pytest

from polymodal.core.errors import DataError
from polymodal.datasets.functions import make_functions
from polymodal.datasets.pages import make_pages
from polymodal.datasets.repairs import make_repairs, make_test_suites
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.metrics.base import Metric
from polymodal.metrics.code_eval.program_cells import program_cell, suite_cell
from polymodal.metrics.text.page_scores import element_f1, page_similarity, page_validity
from polymodal.metrics.text.program_scores import mutation_score, pass_at_1, suite_validity, syntax_validity

RIGHT, TESTS = "def solve(x):\n    return x + 1", "assert solve(1) == 2\nassert solve(5) == 6"
MUTANTS = [RIGHT.replace("+ 1", "* 2"), RIGHT.replace("+ 1", "+ 2")]


def scored(metric: Metric, texts: list[str | None], cells: list[list[str]]) -> float:
    distribution, truth = (np.empty(len(texts), dtype=object) for _ in range(2))
    for row, (text, cell) in enumerate(zip(texts, cells, strict=True)):
        distribution[row], truth[row] = text, tuple(cell)
    return metric.score(distribution, truth, np.ones(len(texts)))


@pytest.mark.parametrize("metric", [page_validity(), page_similarity(), element_f1()])
def test_the_wanted_page_scores_one_and_no_page_scores_none(metric: Metric) -> None:
    columns = make_pages(20, seed=0)
    cells = [[page] for page in columns["html"]]
    assert scored(metric, columns["html"], cells) == 1
    assert scored(metric, [None, "", "<p>", "<table>"], cells[:4]) == 0


def test_pages_that_are_nearly_right() -> None:
    wanted = [["<h1>moon</h1>\n<p>one</p>\n<p>one</p>"]]
    shorter, other = "<h1>moon</h1>\n<p>one</p>", "<h1>tree</h1>"
    assert scored(element_f1(), [shorter], wanted) == pytest.approx(4 / 5)  # two of three, all of two
    assert scored(element_f1(), ["<p>one</p>\n<h1>moon</h1>\n<p>one</p>"], wanted) == 1  # the order does not count here
    assert scored(element_f1(), ["<div><p>one</p></div>"], wanted) == 0
    assert 0.5 < scored(page_similarity(), [shorter], wanted) < 1
    assert 0 < scored(page_similarity(), [other], wanted) < 0.5
    assert scored(page_similarity(), [shorter], [[other, shorter]]) == 1  # the likest reference


def test_likeness_is_the_jaccard_index_of_ink() -> None:
    black, red = '<p style="color:black">a</p>', '<p style="color:red">a</p>'
    assert scored(page_similarity(), [red], [[black]]) == pytest.approx(
        2 / 3
    )  # red has the ink of two channels of three
    assert scored(page_similarity(), [black], [[red]]) == pytest.approx(2 / 3)


def test_programs_are_run_on_their_tests() -> None:
    cells = [program_cell(RIGHT, TESTS)] * 5
    texts = [RIGHT, MUTANTS[0], "def solve(x) return x", None, "import os"]
    assert scored(pass_at_1(), texts, cells) == pytest.approx(1 / 5)
    assert scored(syntax_validity(), texts, cells) == pytest.approx(3 / 5)
    assert scored(pass_at_1(), ["solve = lambda number: 1 + number"], cells[:1]) == 1  # another right program
    assert scored(syntax_validity(), ["x" * 30_000, "(" * 1_000, "x = 1\0"], cells[:3]) == 0


def test_written_tests_hold_and_catch() -> None:
    cell = suite_cell(TESTS, RIGHT, MUTANTS)
    for text, held, caught in [
        (TESTS, 1, 1),
        ("assert solve(1) == 2", 1, 0.5),  # 1 * 2 is 2 as well
        ("x = 1", 1, 0),
        ("assert solve(1) == 3", 0, 0),
        ("assert solve(1) ==", 0, 0),
        (None, 1, 0),
    ]:
        assert scored(suite_validity(), [text], [cell]) == held
        assert scored(mutation_score(), [text], [cell]) == caught


def test_generated_sets_score_one_by_their_own_answers_and_broken_programs_none() -> None:
    made, broken, tested = make_functions(30, seed=0), make_repairs(30, seed=0), make_test_suites(10, seed=0)
    assert scored(pass_at_1(), made["program"], made["answer"]) == 1
    assert scored(pass_at_1(), broken["program"], broken["answer"]) == 1
    assert scored(pass_at_1(), broken["broken"], broken["answer"]) == 0
    assert scored(suite_validity(), tested["tests"], tested["answer"]) == 1
    assert scored(mutation_score(), tested["tests"], tested["answer"]) == 1


def test_a_bootstrap_runs_every_program_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import polymodal.metrics.text.program_scores as module

    calls = []
    real = module.run
    monkeypatch.setattr(module, "run", lambda programs: calls.append(len(programs)) or real(programs))
    distribution, truth = np.array([RIGHT, MUTANTS[0]] * 20, dtype=object), np.empty(40, dtype=object)
    truth[:] = [tuple(program_cell(RIGHT, TESTS))] * 40
    interval = bootstrap(pass_at_1(), distribution, truth, np.ones(40), Resampling(samples=200))
    assert calls == [40]
    assert interval.low < interval.value == 0.5 < interval.high


def test_references_that_say_nothing_are_an_error() -> None:
    with pytest.raises(DataError, match=r"row 1.*# tests"):
        scored(pass_at_1(), [RIGHT, RIGHT], [program_cell(RIGHT, TESTS), [RIGHT]])
    with pytest.raises(DataError, match=r"row 0.*# program"):
        scored(mutation_score(), [TESTS], [[TESTS]])
    with pytest.raises(DataError, match=r"row 0.*mutants"):
        scored(suite_validity(), [TESTS], [suite_cell(TESTS, RIGHT, [])])
    with pytest.raises(DataError, match=r"row 0.*not a valid page"):
        scored(page_similarity(), ["<hr>"], [["<marquee>"]])
