"""Short answers: exact match, normalized exact match, and token F1."""

from __future__ import annotations

import re
import string
from collections import Counter

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import pairs, row_mean_metric

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalize_squad(text: str) -> str:
    """Normalize a text as SQuAD does: lower case, without ASCII punctuation and the words a, an, the; single spaces.

    Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016, section 6.

    Example:
        >>> normalize_squad("The Eiffel Tower!")
        'eiffel tower'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match() -> Metric:
    """Fraction of rows whose text equals a reference, ignoring surrounding whitespace."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array(
            [text.strip() in {one.strip() for one in references} for text, references in pairs(distribution, truth)]
        )

    return row_mean_metric("exact_match", scores)


def normalized_exact_match() -> Metric:
    """Fraction of rows whose text equals a reference after `normalize_squad` (the exact match of SQuAD)."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array(
            [
                normalize_squad(text) in map(normalize_squad, references)
                for text, references in pairs(distribution, truth)
            ]
        )

    return row_mean_metric("normalized_exact_match", scores)


def token_f1() -> Metric:
    """Mean over rows of the F1 of the words shared with the best reference, after `normalize_squad`.

    With s shared words (each as often as both have it), F1 = 2 s / (words of the text + words of the reference). If
    both are empty the F1 is 1.

    Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016.

    Example:
        >>> import numpy as np
        >>> texts, references = np.array(["a red cat"], object), np.empty(1, object)
        >>> references[0] = ("the red dog", "red cat")
        >>> token_f1().score(texts, references, np.ones(1))
        1.0
    """

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([max(_f1(text, one) for one in references) for text, references in pairs(distribution, truth)])

    return row_mean_metric("token_f1", scores)


def _f1(text: str, reference: str) -> float:
    words, reference_words = (Counter(normalize_squad(one).split()) for one in (text, reference))
    total = words.total() + reference_words.total()
    return 2 * (words & reference_words).total() / total if total else 1.0
