"""Corpus chrF, equal to sacrebleu."""

from __future__ import annotations

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import corpus_metric, pairs, require_package

MAX_ORDER = 6
BETA = 2


def chrf() -> Metric:
    """Corpus chrF2 from 0 to 100: the F-score of character n-grams of 1 to 6 characters, without whitespace.

    With m_n n-grams common to text and reference, h_n in the text and r_n in the reference, summed over the rows, and
    over the orders n that both have:

        chrF = 100 (1 + 2^2) P R / (2^2 P + R),   P = mean_n m_n / h_n,   R = mean_n m_n / r_n

    With several references, the one with the best chrF of the row counts. With weights of 1 it equals `corpus_score` of
    sacrebleu; a row of weight w counts as w rows.

    Source: Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    ngrams = require_package("sacrebleu.metrics.helpers", "sacrebleu", "the metric chrf").extract_all_char_ngrams

    def counts(text: str, reference: str) -> np.ndarray:
        """h_n, r_n and m_n, `[3, orders]`. As in sacrebleu, h_n is 0 if the reference is too short for n."""
        table = np.zeros((3, MAX_ORDER))
        for n, (text_ngrams, reference_ngrams) in enumerate(
            zip(ngrams(text, MAX_ORDER), ngrams(reference, MAX_ORDER), strict=True)
        ):
            table[:, n] = (
                text_ngrams.total() if reference_ngrams else 0,
                reference_ngrams.total(),
                (text_ngrams & reference_ngrams).total(),
            )
        return table

    def statistics(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(truth), 3 * MAX_ORDER))
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            rows[row] = max((counts(text, reference).ravel() for reference in references), key=chrf_of_sums)
        return rows

    return corpus_metric("chrf", statistics, chrf_of_sums, bounds=(0.0, 100.0))


def chrf_of_sums(sums: np.ndarray) -> float:
    """chrF2 from 0 to 100 from h_1 to h_6, r_1 to r_6 and m_1 to m_6, `[18]`."""
    text_ngrams, reference_ngrams, common = sums.reshape(3, MAX_ORDER)
    both = (text_ngrams > 0) & (reference_ngrams > 0)
    if not common[both].any():
        return 0.0
    precision = float((common[both] / text_ngrams[both]).mean())
    recall = float((common[both] / reference_ngrams[both]).mean())
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
