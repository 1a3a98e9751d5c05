"""Short answers, answers of several annotators, facts, and programs that pass."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from text_samples import objects

from polymodal.core.errors import DataError
from polymodal.metrics.text import fact_f1, pass_at_k, text_metrics
from polymodal.metrics.text.answer_matching import normalize_squad
from polymodal.metrics.text.vqa import normalize_vqa


def score(name: str, text: str | None, *references: str) -> float:
    [metric] = text_metrics([name])
    return metric.score(objects([text]), objects([references]), np.ones(1))


def test_an_exact_match_forgives_white_space_only() -> None:
    assert score("exact_match", " red\n", "blue", "red ") == 1
    assert score("exact_match", "Red", "red") == 0
    assert score("exact_match", None, "") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Beatles' album.", "beatles album"),
        ("an apple, a pear", "apple pear"),
        ("another theatre", "another theatre"),
        ("well-known", "wellknown"),
        ("«Дом»", "«дом»"),
        ("The", ""),
    ],
)
def test_answers_are_normalised_as_for_squad(text: str, expected: str) -> None:
    assert normalize_squad(text) == expected
    assert score("normalized_exact_match", text, "something else", expected) == 1
    assert score("normalized_exact_match", text + " x", expected) == 0


@pytest.mark.parametrize(
    ("text", "references", "expected"),
    [
        ("the red cat", ("red cat",), 1),
        ("red cat", ("red dog",), 0.5),
        ("red red cat", ("red",), 0.5),
        ("red", ("blue", "red red red"), 0.5),
        ("", ("",), 1),
        ("the", ("a",), 1),
        ("", ("red",), 0),
        (None, ("red",), 0),
    ],
)
def test_token_f1_by_hand(text: str | None, references: tuple[str, ...], expected: float) -> None:
    assert score("token_f1", text, *references) == pytest.approx(expected)


# The right-hand sides are those of the evaluation program of the VQA data set.
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes.", "yes"),
        ("a red-and-white ball", "red and white ball"),
        ("well -known", "well known"),
        ("2,000 people", "2000 people"),
        ("2,000 a/b", "2000 ab"),
        ("3.5", "3.5"),
        ("ten", "10"),
        ("None", "0"),
        ("dont know", "don't know"),
        ("they'dve", "they'd've"),
        ("its", "its"),
        ("what's\tup?\n", "what's up"),
        ("The", ""),
    ],
)
def test_answers_are_normalised_as_for_vqa(answer: str, expected: str) -> None:
    assert normalize_vqa(answer) == expected


@pytest.mark.parametrize("agreeing", range(11))
def test_vqa_accuracy_leaves_each_annotator_out(agreeing: int) -> None:
    annotators = ["Two."] * agreeing + [f"answer {number}" for number in range(10 - agreeing)]
    expected = np.mean([min(1, (agreeing - (one == "Two.")) / 3) for one in annotators])
    assert score("vqa_accuracy", "2", *annotators) == pytest.approx(expected)
    if agreeing == 3:
        assert expected == pytest.approx(0.9)


def test_vqa_accuracy_of_few_references_is_a_match() -> None:
    assert score("vqa_accuracy", "a dog", "dog") == 1
    assert score("vqa_accuracy", "dog", "cat", "Dog") == 1
    assert score("vqa_accuracy", "dog", "cat") == 0


def facts_of(text: str) -> set[tuple[str, str]]:
    """Pairs as in `red cat; blue dog`."""
    return {tuple(one.split()) for one in text.split(";") if one.strip()}


def test_facts_are_counted_over_all_rows() -> None:
    texts = objects(["red cat; blue dog", "red cat; red cat", None, ""])
    truth = objects([("red cat; red dog",), ("red cat",), ("old tree",), ("",)])
    # hits 1 + 1, stated 2 + 1, true 2 + 1 + 1
    assert fact_f1(facts_of).score(texts, truth, np.ones(4)) == pytest.approx(2 * 2 / (3 + 4))


def test_facts_take_the_nearest_reference() -> None:
    assert fact_f1(facts_of).score(objects(["red cat"]), objects([("old tree", "red cat")]), np.ones(1)) == 1


def test_facts_without_any_are_undefined() -> None:
    assert np.isnan(fact_f1(facts_of).score(objects(["", None]), objects([("",), ("",)]), np.ones(2)))


@pytest.mark.parametrize("samples", [1, 4, 7])
def test_pass_at_k_is_the_share_of_draws_with_a_program_that_passes(samples: int) -> None:
    for passed in range(samples + 1):
        programs = [True] * passed + [False] * (samples - passed)
        for k in range(1, samples + 1):
            expected = np.mean([any(drawn) for drawn in combinations(programs, k)])
            assert pass_at_k(np.array([samples]), np.array([passed]), k) == pytest.approx([expected])


def test_pass_at_k_of_many_samples_does_not_overflow() -> None:
    found = pass_at_k(np.array([10_000, 10_000]), np.array([0, 1]), 100)
    assert found == pytest.approx([0, 0.01])


@pytest.mark.parametrize(("samples", "passed", "k"), [(3, 1, 4), (3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_pass_at_k_refuses_what_cannot_be(samples: int, passed: int, k: int) -> None:
    with pytest.raises(DataError):
        pass_at_k(np.array([samples]), np.array([passed]), k)
