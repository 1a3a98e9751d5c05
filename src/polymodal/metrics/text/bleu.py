"""BLEU over a corpus, as sacrebleu counts it."""

from __future__ import annotations

import math

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import require_package, pairs, corpus_metric

ORDERS = 4


def bleu(tokenizer: str = "13a") -> Metric:
    """BLEU in 0 to 100, named `bleu` for the tokenizer `13a` and `bleu_<tokenizer>` for others of sacrebleu.

    With c_n of t_n n-grams of the texts found in the references (each at most as often as in the reference that has
    it most often), h words in the texts and r in the references closest in length, all summed over the rows:

        BLEU = 100 min(1, exp(1 - r / h)) (p_1 p_2 p_3 p_4)^(1/4),   p_n = c_n / t_n

    The k-th p_n without a match is taken as 1 / (2^k t_n) (smoothing `exp`), unless no word matches at all: then the
    score is 0. At weights of 1 it equals sacrebleu's `corpus_score`; a row of weight w counts as w rows.

    Sources: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002; Post, "A
    Call for Clarity in Reporting BLEU Scores", WMT 2018; Chen and Cherry, "A Systematic Comparison of Smoothing
    Techniques for Sentence-Level BLEU", WMT 2014.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    name = "bleu" if tokenizer == "13a" else f"bleu_{tokenizer}"
    scorer = require_package("sacrebleu.metrics", "sacrebleu", f"the metric {name}").BLEU(tokenize=tokenizer)

    def statistics(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(truth), 2 + 2 * ORDERS))
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            counted = scorer.corpus_score([text], [[reference] for reference in references])
            rows[row] = [counted.sys_len, counted.ref_len, *counted.counts, *counted.totals]
        return rows

    return corpus_metric(name, statistics, bleu_of_sums)


def bleu_of_sums(sums: np.ndarray) -> float:
    """BLEU in 0 to 100 of h, r, c_1 to c_4 and t_1 to t_4, `[10]`."""
    written, wanted, found, total = sums[0], sums[1], sums[2 : 2 + ORDERS], sums[2 + ORDERS :]
    if not found.any() or not total.all():
        return 0.0
    unfound = found == 0
    precision = np.where(unfound, 0.5 ** unfound.cumsum(), found) / total
    brevity = min(0.0, 1 - wanted / written)
    return 100 * math.exp(brevity + float(np.log(precision).mean()))
