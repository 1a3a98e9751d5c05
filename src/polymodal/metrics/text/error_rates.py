"""Word and character error rates, aligned by jiwer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from polymodal.core.errors import MissingExtraError
from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import require_package, pairs, corpus_metric
from polymodal.metrics.text.word_tokenization import normalize_spoken


def wer() -> Metric:
    """Word error rate over a corpus: (substituted + deleted + inserted words) / words of the references.

    Texts are compared as `normalize_spoken`: lower case, no punctuation. Of several references the one with the lowest rate
    counts. 0 is perfect, writing nothing scores 1, and writing too much may score more. NaN if no reference has a
    word.

    Source: Morris, Maier and Green, "From WER and RIL to MER and WIL", Interspeech 2004.

    Raises:
        MissingExtraError: jiwer is not installed.
    """
    return _error_rate("wer", require_package("jiwer", "jiwer", "the metric wer").process_words)


def wer_english() -> Metric:
    """Word error rate of English texts in the form in which Whisper's authors compare them: lower case, numbers as
    digits, contractions in full, no punctuation, no fillers such as "um" (Radford et al., "Robust Speech Recognition
    via Large-Scale Weak Supervision", 2023, appendix C). British spellings stay as they are.

    Raises:
        MissingExtraError: jiwer or transformers is not installed.
    """
    aligned = require_package("jiwer", "jiwer", "the metric wer_english").process_words
    normalise = whisper_normalizer()
    return _error_rate("wer_english", aligned, normalise)


def whisper_normalizer() -> Callable[[str], str]:
    """The normal form of English texts by Whisper's authors.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers.models.whisper.english_normalizer import EnglishTextNormalizer
    except ModuleNotFoundError:
        raise MissingExtraError("transformers", "pretrained", "the metric wer_english") from None
    normalise: Any = EnglishTextNormalizer({})  # type: ignore[no-untyped-call]
    return lambda text: str(normalise(text))


def cer() -> Metric:
    """Character error rate: as `wer`, by characters, of which the spaces between words are some.

    Raises:
        MissingExtraError: jiwer is not installed.
    """
    return _error_rate("cer", require_package("jiwer", "jiwer", "the metric cer").process_characters)


def _error_rate(name: str, aligned: Callable[[str, str], Any], form: Callable[[str], str] = normalize_spoken) -> Metric:
    def counts(text: str, reference: str) -> tuple[int, int]:
        """Edits, and the length of the reference."""
        found = aligned(reference, text)
        missed = found.substitutions + found.deletions
        return missed + found.insertions, missed + found.hits

    def statistics(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(truth), 2))
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            written = form(text)
            rows[row] = min((counts(written, form(one)) for one in references), key=_rate_of_row)
        return rows

    return corpus_metric(name, statistics, rate_of_sums, greater_is_better=False)


def _rate_of_row(counts: tuple[int, int]) -> tuple[float, int]:
    """The rate; of equal rates the longer reference goes first, whichever is named first."""
    edits, length = counts
    return edits / max(1, length), -length


def rate_of_sums(sums: np.ndarray) -> float:
    """Edits by the length of the references, `[2]`."""
    return float(sums[0] / sums[1]) if sums[1] > 0 else float("nan")
