"""chrF over a corpus, as sacrebleu counts it."""

from __future__ import annotations

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import require_package, pairs, corpus_metric

ORDERS = 6
BETA = 2


def chrf() -> Metric:
    """chrF2 in 0 to 100: the F score of character n-grams of 1 to 6 characters, without white space.

    With m_n n-grams common to text and reference, h_n in the text and r_n in the reference, summed over the rows, and
    over the orders n that both have:

        chrF = 100 (1 + 2^2) P R / (2^2 P + R),   P = mean_n m_n / h_n,   R = mean_n m_n / r_n

    Of several references the one with the best chrF of the row counts. At weights of 1 it equals sacrebleu's
    `corpus_score`; a row of weight w counts as w rows.

    Source: Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    ngrams = require_package("sacrebleu.metrics.helpers", "sacrebleu", "the metric chrf").extract_all_char_ngrams

    def counts(text: str, reference: str) -> np.ndarray:
        """h_n, r_n and m_n, `[3, orders]`. As in sacrebleu, h_n is 0 where the reference is too short for n."""
        table = np.zeros((3, ORDERS))
        for n, (written, wanted) in enumerate(zip(ngrams(text, ORDERS), ngrams(reference, ORDERS), strict=True)):
            table[:, n] = written.total() if wanted else 0, wanted.total(), (written & wanted).total()
        return table

    def statistics(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(truth), 3 * ORDERS))
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            rows[row] = max((counts(text, reference).ravel() for reference in references), key=chrf_of_sums)
        return rows

    return corpus_metric("chrf", statistics, chrf_of_sums)


def chrf_of_sums(sums: np.ndarray) -> float:
    """chrF2 in 0 to 100 of h_1 to h_6, r_1 to r_6 and m_1 to m_6, `[18]`."""
    written, wanted, common = sums.reshape(3, ORDERS)
    both = (written > 0) & (wanted > 0)
    if not common[both].any():
        return 0.0
    precision = float((common[both] / written[both]).mean())
    recall = float((common[both] / wanted[both]).mean())
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
