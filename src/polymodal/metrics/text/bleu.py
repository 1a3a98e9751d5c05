"""Corpus BLEU, equal to sacrebleu."""

from __future__ import annotations

import math

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import corpus_metric, pairs, require_package

MAX_ORDER = 4


def bleu(tokenizer: str = "13a") -> Metric:
    """Corpus BLEU from 0 to 100, named `bleu` for the tokenizer `13a` and `bleu_<tokenizer>` for other tokenizers of
    sacrebleu.

    With c_n of t_n n-grams of the texts found in the references (each at most as often as in the reference with most of
    it), h words in the texts and r in the references closest in length, all summed over the rows:

        BLEU = 100 min(1, exp(1 - r / h)) (p_1 p_2 p_3 p_4)^(1/4),   p_n = c_n / t_n

    The k-th p_n without a match is set to 1 / (2^k t_n) (smoothing `exp`), unless no word matches at all: then the
    score is 0. With weights of 1 it equals `corpus_score` of sacrebleu; a row of weight w counts as w rows.

    Sources: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002; Post, "A Call
    for Clarity in Reporting BLEU Scores", WMT 2018; Chen and Cherry, "A Systematic Comparison of Smoothing Techniques
    for Sentence-Level BLEU", WMT 2014.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    name = "bleu" if tokenizer == "13a" else f"bleu_{tokenizer}"
    scorer = require_package("sacrebleu.metrics", "sacrebleu", f"the metric {name}").BLEU(tokenize=tokenizer)

    def statistics(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(truth), 2 + 2 * MAX_ORDER))
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            counted = scorer.corpus_score([text], [[reference] for reference in references])
            rows[row] = [counted.sys_len, counted.ref_len, *counted.counts, *counted.totals]
        return rows

    return corpus_metric(name, statistics, bleu_of_sums, bounds=(0.0, 100.0))


def bleu_of_sums(sums: np.ndarray) -> float:
    """BLEU from 0 to 100 from h, r, c_1 to c_4 and t_1 to t_4, `[10]`."""
    text_length, reference_length, matched, total = sums[0], sums[1], sums[2 : 2 + MAX_ORDER], sums[2 + MAX_ORDER :]
    if not matched.any() or not total.all():
        return 0.0
    unmatched = matched == 0
    precision = np.where(unmatched, 0.5 ** unmatched.cumsum(), matched) / total
    brevity = min(0.0, 1 - reference_length / text_length)
    return 100 * math.exp(brevity + float(np.log(precision).mean()))
