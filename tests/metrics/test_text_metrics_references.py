"""Scores of texts equal those of the packages that the field reports."""

from __future__ import annotations

import math

import jiwer
import nltk
import numpy as np
import pytest
import sacrebleu
from nltk.translate.meteor_score import meteor_score
from rouge_score.rouge_scorer import RougeScorer
from text_samples import objects, sample

from polymodal.metrics.text import text_metrics
from polymodal.metrics.text.word_tokenization import normalize_spoken, split_words

SEEDS = range(4)


def score(name: str, texts: np.ndarray, truth: np.ndarray) -> float:
    [metric] = text_metrics([name])
    return metric.score(texts, truth, np.ones(len(truth)))


def streams(truth: np.ndarray) -> list[list[str | None]]:
    """References as sacrebleu takes them: the first of every row, the second of every row ..., None where missing."""
    most = max(map(len, truth))
    return [[several[place] if place < len(several) else None for several in truth] for place in range(most)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rows", [1, 3, 60])
@pytest.mark.parametrize(("name", "tokeniser"), [("bleu", "13a"), ("bleu_zh", "zh"), ("bleu_char", "char")])
def test_bleu_is_that_of_sacrebleu(name: str, tokeniser: str, rows: int, seed: int) -> None:
    texts, truth = sample(rows, seed)
    written = [text or "" for text in texts]
    expected = sacrebleu.BLEU(tokenize=tokeniser).corpus_score(written, streams(truth)).score
    assert score(name, texts, truth) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("a b c d", "x y z w"),
        ("a", "a"),
        ("a b c d e", "a x c y e"),
        ("a b c d e", "a b x d e f g h i j"),
        ("", "a b c d"),
        ("a b c d", ""),
    ],
)
def test_smoothing_and_brevity_are_those_of_sacrebleu(text: str, reference: str) -> None:
    expected = sacrebleu.BLEU().corpus_score([text], [[reference]]).score
    assert score("bleu", objects([text]), objects([(reference,)])) == pytest.approx(expected, abs=1e-9)


def test_bleu_of_texts_of_three_words_is_nothing() -> None:
    texts = objects(["two dogs", "a red cat"])
    truth = objects([(text,) for text in texts])
    assert score("bleu", texts, truth) == 0
    assert score("chrf", texts, truth) == 100


def test_chinese_needs_its_own_tokeniser() -> None:
    texts, truth = objects(["一只红色的猫坐在桌子上"]), objects([("一只红色的猫躺在桌子上",)])
    assert score("bleu", texts, truth) == 0
    assert 30 < score("bleu_zh", texts, truth) < 90


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rows", [1, 3, 60])
def test_chrf_is_that_of_sacrebleu(rows: int, seed: int) -> None:
    texts, truth = sample(rows, seed)
    expected = sacrebleu.CHRF().corpus_score([text or "" for text in texts], streams(truth)).score
    assert score("chrf", texts, truth) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_that_of_rouge_score(name: str, seed: int) -> None:
    texts, truth = sample(seed=seed)
    scorer = RougeScorer([name])
    expected = np.mean(
        [
            max(scorer.score(reference, text or "")[name].fmeasure for reference in several)
            for text, several in zip(texts, truth, strict=True)
        ]
    )
    assert score(name, texts, truth) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_of_references_without_a_word_is_0(name: str) -> None:
    """As in rouge_score; also where no row has a word."""
    assert score(name, objects(["a cat"]), objects([("🙂",)])) == 0
    assert score(name, objects(["🙂"]), objects([("🙂!",)])) == 0
    assert score(name, objects(["a cat", "🙂"]), objects([("a cat",), ("🙂",)])) == 0.5


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_of_another_script_is_undefined_or_by_words(name: str) -> None:
    texts, truth = objects(["кошка спит на столе"]), objects([("кошка спит на полу",)])
    assert math.isnan(score(name, texts, truth))
    assert 0 < score(f"{name}_multilingual", texts, truth) < 1


def test_rouge_by_words_is_rouge_where_the_tokenisers_agree() -> None:
    texts = objects(["the cat sat on the mat", "two dogs"])
    truth = objects([("a cat sat on a mat",), ("two brown dogs", "cats")])
    for name in ("rouge1", "rouge2", "rougeL"):
        assert score(f"{name}_multilingual", texts, truth) == score(name, texts, truth)


@pytest.mark.parametrize("seed", SEEDS)
def test_meteor_is_that_of_nltk(seed: int) -> None:
    class Empty:
        def synsets(self, word: str) -> list:
            return []

    texts, truth = sample(seed=seed)
    expected = np.mean(
        [
            meteor_score([split_words(reference) for reference in several], split_words(text or ""), wordnet=Empty())
            for text, several in zip(texts, truth, strict=True)
        ]
    )
    assert score("meteor", texts, truth) == pytest.approx(expected, abs=1e-12)


def test_meteor_matches_stems_and_reads_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nltk.data, "path", [])
    texts, truth = objects(["two cats sleeping"]), objects([("two cat sleeps",)])
    assert score("meteor", texts, truth) == pytest.approx(1 - 0.5 / 27)
    assert score("meteor", objects(["a feline"]), objects([("a cat",)])) == pytest.approx(0.5 * 0.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_error_rates_are_those_of_jiwer(seed: int) -> None:
    texts, truth = sample(seed=seed)
    written, wanted = (
        [normalize_spoken(text or "") for text in texts],
        [normalize_spoken(several[0]) for several in truth],
    )
    single = objects([(several[0],) for several in truth])
    assert score("wer", texts, single) == pytest.approx(jiwer.wer(wanted, written), abs=1e-12)
    assert score("cer", texts, single) == pytest.approx(jiwer.cer(wanted, written), abs=1e-12)


@pytest.mark.parametrize("name", ["wer", "cer"])
def test_error_rates_take_the_nearest_reference(name: str) -> None:
    texts = objects(["put the red box down", "yes"])
    far, near = ("go left", "no"), ("Put the red box, down.", "Yes!")
    assert score(name, texts, objects(list(zip(far, near, strict=True)))) == 0
    assert score(name, texts, objects([(one,) for one in far])) > 0.5


def test_error_rates_sum_before_they_divide() -> None:
    texts, truth = objects(["a b c d", "x x"]), objects([("a b c d",), ("y",)])
    assert score("wer", texts, truth) == pytest.approx(2 / 5)


def test_an_error_rate_without_a_word_is_undefined() -> None:
    assert math.isnan(score("wer", objects(["a", ""]), objects([("...",), ("",)])))
