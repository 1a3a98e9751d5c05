"""F1 of the facts that a text states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import pairs, corpus_metric

#: The facts of a text, as in {("cat", "colour", "red"), ("cat", "left of", "dog")}.
Reader = Callable[[str], set]


def fact_f1(read: Reader) -> Metric:
    """F1 of stated facts over a corpus: 2 hits / (stated + true), each summed over the rows.

    read: the set of facts that a text states. A fact that is said twice counts once.

    Of several references the one with the best F1 of the row counts. NaN if there is no fact at all.
    """

    def statistics(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(truth), 2))
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            stated = read(text)
            rows[row] = max((_counts(stated, read(one)) for one in references), key=_f1_of_row)
        return rows

    return corpus_metric("fact_f1", statistics, f1_of_sums)


def _counts(stated: set, true: set) -> tuple[int, int]:
    return len(stated & true), len(stated) + len(true)


def _f1_of_row(counts: tuple[int, int]) -> tuple[float, int]:
    """F1; of equal ones the reference with fewer facts is nearer, whichever is named first."""
    hits, both = counts
    return 2 * hits / both if both else 1.0, -both


def f1_of_sums(sums: np.ndarray) -> float:
    """F1 of hits, and stated and true facts together, `[2]`."""
    return float(2 * sums[0] / sums[1]) if sums[1] > 0 else float("nan")
