"""F1 of the facts that a text states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import corpus_metric, pairs

#: Function from a text to its facts, such as {("cat", "color", "red"), ("cat", "left of", "dog")}.
FactReader = Callable[[str], set]


def fact_f1(read: FactReader) -> Metric:
    """Corpus F1 of stated facts: 2 true positives / (stated + true), each summed over the rows.

    read: function from a text to its set of facts; repeated facts count once

    With several references, the one with the best F1 of the row counts. NaN if there are no facts at all.

    Example:
        >>> import numpy as np
        >>> texts, references = np.array(["red cat"], object), np.empty(1, object)
        >>> references[0] = ("red dog",)
        >>> fact_f1(lambda text: set(text.split())).score(texts, references, np.ones(1))
        0.5
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
    """Sort key: F1; for equal F1 the reference with fewer facts, independent of the order of the references."""
    matches, total = counts
    return 2 * matches / total if total else 1.0, -total


def f1_of_sums(sums: np.ndarray) -> float:
    """F1 from true positives, and the sum of stated and true facts, `[2]`."""
    return float(2 * sums[0] / sums[1]) if sums[1] > 0 else float("nan")
