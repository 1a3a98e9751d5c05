"""Word and character error rates, with the alignment of jiwer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from polymodal.core.errors import MissingExtraError
from polymodal.metrics.base import POSITIVE, Metric
from polymodal.metrics.text.base import corpus_metric, pairs, require_package
from polymodal.metrics.text.word_tokenization import normalize_spoken


def wer() -> Metric:
    """Corpus word error rate: (substitutions + deletions + insertions) / number of reference words.

    Texts are compared after `normalize_spoken`: lower case, no punctuation. With several references, the one with the
    lowest rate counts. 0 is perfect; an empty text scores 1; too much text may score more than 1. NaN if no reference
    has a word.

    Source: Morris, Maier and Green, "From WER and RIL to MER and WIL", Interspeech 2004.

    Raises:
        MissingExtraError: jiwer is not installed.
    """
    return _error_rate("wer", require_package("jiwer", "jiwer", "the metric wer").process_words)


def wer_english() -> Metric:
    """Word error rate of English texts after the normalization of Whisper: lower case, numbers as digits, expanded
    contractions, no punctuation, no fillers such as "um" (Radford et al., "Robust Speech Recognition via Large-Scale
    Weak Supervision", 2023, appendix C). British spellings are kept.

    Raises:
        MissingExtraError: jiwer or transformers is not installed.
    """
    align = require_package("jiwer", "jiwer", "the metric wer_english").process_words
    normalize = whisper_normalizer()
    return _error_rate("wer_english", align, normalize)


def whisper_normalizer() -> Callable[[str], str]:
    """Whisper's normalizer of English texts.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers.models.whisper.english_normalizer import EnglishTextNormalizer
    except ModuleNotFoundError:
        raise MissingExtraError("transformers", "pretrained", "the metric wer_english") from None
    normalize: Any = EnglishTextNormalizer({})  # type: ignore[no-untyped-call]
    return lambda text: str(normalize(text))


def cer() -> Metric:
    """Character error rate: as `wer`, by characters, including the spaces between words.

    Raises:
        MissingExtraError: jiwer is not installed.
    """
    return _error_rate("cer", require_package("jiwer", "jiwer", "the metric cer").process_characters)


def _error_rate(
    name: str, align: Callable[[str, str], Any], normalize: Callable[[str], str] = normalize_spoken
) -> Metric:
    def counts(text: str, reference: str) -> tuple[int, int]:
        """Number of edits, and length of the reference."""
        alignment = align(reference, text)
        errors = alignment.substitutions + alignment.deletions
        return errors + alignment.insertions, errors + alignment.hits

    def statistics(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(truth), 2))
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            normalized = normalize(text)
            rows[row] = min((counts(normalized, normalize(one)) for one in references), key=_rate_of_row)
        return rows

    return corpus_metric(name, statistics, rate_of_sums, greater_is_better=False, bounds=POSITIVE)


def _rate_of_row(counts: tuple[int, int]) -> tuple[float, int]:
    """Sort key: the rate; for equal rates the longer reference, independent of the order of the references."""
    edits, length = counts
    return edits / max(1, length), -length


def rate_of_sums(sums: np.ndarray) -> float:
    """Edits divided by the length of the references, `[2]`."""
    return float(sums[0] / sums[1]) if sums[1] > 0 else float("nan")
