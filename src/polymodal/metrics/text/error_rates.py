"""Word and character error rates, aligned by jiwer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.extra import imported
from polymodal.metrics.text.pairs import pairs
from polymodal.metrics.text.sums import score_of_sums
from polymodal.metrics.text.words import spoken


def wer() -> Metric:
    """Word error rate over a corpus: (substituted + deleted + inserted words) / words of the references.

    Texts are compared as `spoken`: lower case, no punctuation. Of several references the one with the lowest rate
    counts. 0 is perfect, writing nothing scores 1, and writing too much may score more. NaN if no reference has a
    word.

    Source: Morris, Maier and Green, "From WER and RIL to MER and WIL", Interspeech 2004.

    Raises:
        MissingExtraError: jiwer is not installed.
    """
    return _error_rate("wer", imported("jiwer", "jiwer", "the metric wer").process_words)


def cer() -> Metric:
    """Character error rate: as `wer`, by characters, of which the spaces between words are some.

    Raises:
        MissingExtraError: jiwer is not installed.
    """
    return _error_rate("cer", imported("jiwer", "jiwer", "the metric cer").process_characters)


def _error_rate(name: str, aligned: Callable[[str, str], Any]) -> Metric:
    def counts(text: str, reference: str) -> tuple[int, int]:
        """Edits, and the length of the reference."""
        found = aligned(reference, text)
        missed = found.substitutions + found.deletions
        return missed + found.insertions, missed + found.hits

    def statistics(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(truth), 2))
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            written = spoken(text)
            rows[row] = min((counts(written, spoken(one)) for one in references), key=_rate_of_row)
        return rows

    return score_of_sums(name, statistics, rate_of_sums, greater_is_better=False)


def _rate_of_row(counts: tuple[int, int]) -> tuple[float, int]:
    """The rate; of equal rates the longer reference goes first, whichever is named first."""
    edits, length = counts
    return edits / max(1, length), -length


def rate_of_sums(sums: np.ndarray) -> float:
    """Edits by the length of the references, `[2]`."""
    return float(sums[0] / sums[1]) if sums[1] > 0 else float("nan")
