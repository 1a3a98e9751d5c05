"""CIDEr-D against the paper's equations, against the authors' program, and its traps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from text_samples import objects, sample

from polymodal.metrics.text import text_metrics
from polymodal.metrics.text.cider import cider
from polymodal.metrics.text.word_tokenization import split_words

TEXTS = objects(["a red cat sits on the box", "two dogs run", "", "кот спит на столе"])
TRUTH = objects(
    [
        ("a red cat on a box", "the cat sits on the red box"),
        ("two dogs are running in the park", "two dogs run", "dogs"),
        ("an empty street",),
        ("кот спит на столе", "на столе спит кот", "рыжий кот на столе"),
    ]
)


def by_the_paper(texts: list[str], truth: list[tuple[str, ...]], documents: list[tuple[str, ...]]) -> np.ndarray:
    """CIDEr-D of every row, with vectors over all n-grams that occur anywhere."""
    scores = np.zeros((len(texts), 4))
    for n in (1, 2, 3, 4):

        def grams(text: str, n: int = n) -> list[str]:
            tokens = split_words(text)
            return [" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]

        everything = [*texts, *(one for several in [*truth, *documents] for one in several)]
        vocabulary = sorted({gram for text in everything for gram in grams(text)})
        frequency = [
            sum(any(gram in grams(one) for one in several) for several in documents) or 1 for gram in vocabulary
        ]
        idf = np.log(len(documents) / np.array(frequency, dtype=float))

        def g(text: str, vocabulary: list[str] = vocabulary, idf: np.ndarray = idf, grams=grams) -> np.ndarray:
            found = grams(text)
            return np.array([found.count(gram) for gram in vocabulary]) * idf

        for row, (text, several) in enumerate(zip(texts, truth, strict=True)):
            for one in several:
                c, s = g(text), g(one)
                norms = np.linalg.norm(c) * np.linalg.norm(s)
                if norms == 0:
                    continue
                penalty = np.exp(-((len(split_words(text)) - len(split_words(one))) ** 2) / (2 * 6.0**2))
                scores[row, n - 1] += 10 / len(several) * penalty * (np.minimum(c, s) @ s) / norms
    return scores.mean(1)


@pytest.mark.parametrize("seed", range(3))
def test_cider_is_that_of_the_paper(seed: int) -> None:
    texts, truth = sample(12, seed)
    written = [text or "" for text in texts]
    weight = np.random.default_rng(seed).random(12)
    expected = by_the_paper(written, list(truth), list(truth))
    assert expected.max() > 1
    assert cider().score(texts, truth, weight) == pytest.approx(np.average(expected, weights=weight))
    _, documents = sample(20, seed + 100)
    expected = by_the_paper(written, list(truth), list(documents))
    assert cider(documents).score(texts, truth, weight) == pytest.approx(np.average(expected, weights=weight))


def test_cider_is_that_of_pycocoevalcap() -> None:
    prepared = cider(tokenizer=str.split).weighted(TEXTS, TRUTH)
    # pycocoevalcap 1.2, CiderScorer, these rows
    expected = [4.33200658, 3.45595641, 0.0, 5.34722222]
    assert [prepared(np.eye(4)[row]) for row in range(4)] == pytest.approx(expected, abs=1e-7)
    assert prepared(np.ones(4)) == pytest.approx(3.2837963041364153, abs=1e-12)


def test_words_of_every_row_are_worth_nothing() -> None:
    texts = objects(["a photo of", "a photo of"])
    truth = objects([("a photo of cats",), ("a photo of dogs",)])
    assert cider().score(texts, truth, np.ones(2)) == 0
    better = objects(["cats", "dogs"])
    assert cider().score(better, truth, np.ones(2)) > 1


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_without_a_telling_word_are_undefined(rows: int) -> None:
    texts, truth = objects(["a cat"] * rows), objects([("a cat",)] * rows)
    assert math.isnan(cider().score(texts, truth, np.ones(rows)))
    [elsewhere] = text_metrics(["cider"], documents=[("a cat",), ("two dogs",)])
    # neither text has n-grams of 3 or 4 words
    assert elsewhere.score(texts, truth, np.ones(rows)) == pytest.approx(5)


def test_the_idf_depends_on_the_rows() -> None:
    whole = cider().weighted(TEXTS, TRUTH)(np.array([1, 1, 0, 0]))
    part = cider().score(TEXTS[:2], TRUTH[:2], np.ones(2))
    assert whole != pytest.approx(part, rel=1e-3)
    fixed = cider(TRUTH)
    assert fixed.score(TEXTS[:2], TRUTH[:2], np.ones(2)) == pytest.approx(whole)


def test_repeating_a_word_does_not_pay() -> None:
    truth = objects([("a red cat",), ("two dogs",)])
    once = cider().score(objects(["cat", ""]), truth, np.ones(2))
    assert cider().score(objects(["cat cat cat", ""]), truth, np.ones(2)) < once
