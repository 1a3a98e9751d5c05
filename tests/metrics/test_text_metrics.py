"""Laws that every metric of written texts keeps."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from text_samples import ROWS, objects, sample

from polymodal.core.errors import DataError, MissingExtraError, RecipeError
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.metrics.base import Metric
from polymodal.metrics.text import TEXT_METRICS, text_metrics
from polymodal.metrics.text.catalog import CODE_METRICS
from polymodal.metrics.text.word_tokenization import normalize_spoken, split_words


def facts_of(text: str) -> set:
    return set(zip(split_words(text), split_words(text)[1:], strict=False))


TEXTS, TRUTH = sample()
# Those of code need references that are code: test_program_metrics.
NAMES = [name for name in TEXT_METRICS if name not in CODE_METRICS]
EVERY = text_metrics(NAMES, documents=TRUTH, read=facts_of)


@pytest.fixture(params=EVERY, ids=lambda metric: metric.name)
def metric(request: pytest.FixtureRequest) -> Metric:
    return request.param


def test_the_catalogue_makes_every_metric_it_names() -> None:
    assert [metric.name for metric in EVERY] == NAMES
    assert [metric.name for metric in text_metrics(CODE_METRICS)] == list(CODE_METRICS)
    assert {*NAMES, *CODE_METRICS} == TEXT_METRICS.keys()
    assert {metric.name for metric in EVERY if not metric.greater_is_better} == {"wer", "wer_english", "cer"}


def test_a_right_answer_is_best_and_none_is_worst(metric: Metric) -> None:
    right = objects(["a red cat sits on the box", "кошка спит на столе", "2 cats, sitting there"])
    truth = objects([(text,) for text in right])
    weight = np.ones(3)
    best = 100 if metric.name.startswith(("bleu", "chrf")) else 10 if metric.name == "cider" else 1
    if not metric.greater_is_better:
        best = 0
    perfect = metric.score(right, truth, weight)
    if metric.name.startswith("rouge") and not metric.name.endswith("multilingual"):
        assert perfect == pytest.approx(2 / 3)  # the row in Russian has no word for them
    elif metric.name == "meteor":
        assert 0.99 < perfect < best  # the whole text is one stretch of matches, not none
    elif metric.name != "cider":
        assert perfect == pytest.approx(best)
    [own_idf] = text_metrics(["cider"])
    assert own_idf.score(right, truth, weight) == pytest.approx(10)
    nothing = metric.score(objects([None] * 3), truth, weight)
    assert nothing == (0 if metric.greater_is_better else 1)
    assert (perfect > nothing) == metric.greater_is_better


def test_no_answer_scores_as_the_empty_text(metric: Metric) -> None:
    weight = np.ones(ROWS)
    empty = objects([text or "" for text in TEXTS])
    assert any(text is None for text in TEXTS)
    assert metric.score(TEXTS, TRUTH, weight) == metric.score(empty, TRUTH, weight)


def test_a_row_of_weight_two_counts_as_two_rows(metric: Metric) -> None:
    weight = np.random.default_rng(1).integers(0, 4, ROWS)
    repeated = np.repeat(np.arange(ROWS), weight)
    weighted = metric.score(TEXTS, TRUTH, weight)
    assert weighted == pytest.approx(metric.score(TEXTS[repeated], TRUTH[repeated], np.ones(len(repeated))))
    assert weighted != pytest.approx(metric.score(TEXTS, TRUTH, np.ones(ROWS)), rel=1e-6)


def test_weights_need_not_be_whole(metric: Metric) -> None:
    weight = np.random.default_rng(2).random(ROWS)
    assert metric.score(TEXTS, TRUTH, 3 * weight) == pytest.approx(metric.score(TEXTS, TRUTH, weight))


def test_the_bootstrap_holds_the_value_and_reads_the_texts_once(metric: Metric) -> None:
    found = bootstrap(metric, TEXTS, TRUTH, np.ones(ROWS), Resampling(samples=200))
    assert found.low <= found.value <= found.high
    assert found.low < found.high
    assert found.value == metric.score(TEXTS, TRUTH, np.ones(ROWS))


def test_the_order_of_rows_and_references_does_not_matter(metric: Metric) -> None:
    order = np.random.default_rng(3).permutation(ROWS)
    turned = objects([several[::-1] for several in TRUTH[order]])
    expected = metric.score(TEXTS, TRUTH, np.ones(ROWS))
    assert metric.score(TEXTS[order], TRUTH[order], np.ones(ROWS)) == pytest.approx(expected)
    if metric.name != "chrf":  # as in sacrebleu, of references that score alike the first counts
        assert metric.score(TEXTS[order], turned, np.ones(ROWS)) == pytest.approx(expected)


def test_without_a_row_a_score_is_undefined(metric: Metric) -> None:
    assert math.isnan(metric.score(TEXTS, TRUTH, np.zeros(ROWS)))
    assert math.isnan(metric.score(TEXTS[:0], TRUTH[:0], np.zeros(0)))


def test_a_row_without_a_reference_is_named(metric: Metric) -> None:
    with pytest.raises(DataError, match="row 1"):
        metric.score(objects(["a", "b"]), objects([("a",), ()]), np.ones(2))


def test_texts_are_not_changed(metric: Metric) -> None:
    texts, truth = TEXTS.copy(), TRUTH.copy()
    metric.score(texts, truth, np.ones(ROWS))
    assert texts.tolist() == TEXTS.tolist()
    assert truth.tolist() == TRUTH.tolist()


def test_an_unknown_metric_is_refused_with_a_hint() -> None:
    with pytest.raises(RecipeError, match="did you mean 'chrf'"):
        text_metrics(["chrF"])


def test_facts_need_a_reader() -> None:
    with pytest.raises(RecipeError, match="fact_f1"):
        text_metrics(["fact_f1"])


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("bleu", "sacrebleu.metrics", "sacrebleu"),
        ("chrf", "sacrebleu.metrics.helpers", "sacrebleu"),
        ("rougeL", "rouge_score.rouge_scorer", "rouge-score"),
        ("meteor", "nltk.translate.meteor_score", "nltk"),
        ("wer", "jiwer", "jiwer"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{name} needs {package}: pip install 'polymodal\[text\]'"):
        text_metrics([name])


def test_core_metrics_need_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("sacrebleu", "rouge_score", "nltk", "jiwer"):
        for module in [one for one in sys.modules if one == package or one.startswith(package + ".")]:
            monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.setitem(sys.modules, package, None)
    core = ["cider", "exact_match", "normalized_exact_match", "token_f1", "vqa_accuracy", "fact_f1"]
    for metric in text_metrics(core, read=facts_of):
        assert not math.isnan(metric.score(TEXTS, TRUTH, np.ones(ROWS)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Don't STOP—now!\n", "dont stop now"),
        ("well-known, 3.5 %", "well known 3 5"),
        ("«Дом»…  Ёлка", "дом ёлка"),
        ("हिन्दी।", "हिन्दी"),
        ("", ""),
    ],
)
def test_spoken_text(text: str, expected: str) -> None:
    assert normalize_spoken(text) == expected


def test_scripts_without_spaces_are_read_by_the_character() -> None:
    assert split_words("一只cat在睡觉。") == ["一", "只", "cat", "在", "睡", "觉"]
    assert split_words("The ねこ's") == ["the", "ね", "こ", "s"]


def test_numbers_and_contractions_have_one_english_form() -> None:
    said, meant = objects(["press 1 now", "I do not know"]), objects([("Press one now.",), ("I don't know!",)])
    english, plain = text_metrics(["wer_english", "wer"])
    assert english.score(said, meant, np.ones(2)) == 0
    assert plain.score(said, meant, np.ones(2)) == pytest.approx(3 / 6)
