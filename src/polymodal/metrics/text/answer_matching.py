"""Short answers: equal to a reference, equal after normalisation, and the words they share with it."""

from __future__ import annotations

import re
import string
from collections import Counter

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import row_mean_metric, pairs

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalize_squad(text: str) -> str:
    """Lower case, without ASCII punctuation and without the words a, an, the; one space between words.

    Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016, section 6.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match() -> Metric:
    """The share of rows whose text equals a reference, white space at both ends aside."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array(
            [text.strip() in {one.strip() for one in references} for text, references in pairs(distribution, truth)]
        )

    return row_mean_metric("exact_match", scores)


def normalized_exact_match() -> Metric:
    """The share of rows whose text equals a reference after `normalize_squad`."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array(
            [
                normalize_squad(text) in map(normalize_squad, references)
                for text, references in pairs(distribution, truth)
            ]
        )

    return row_mean_metric("normalized_exact_match", scores)


def token_f1() -> Metric:
    """The mean over rows of the F1 of words shared with the best reference, after `normalize_squad`.

    With s shared words (each as often as both have it), F1 = 2 s / (words of the text + words of the reference).
    If both are empty the F1 is 1.

    Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016.
    """

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([max(_f1(text, one) for one in references) for text, references in pairs(distribution, truth)])

    return row_mean_metric("token_f1", scores)


def _f1(text: str, reference: str) -> float:
    written, wanted = (Counter(normalize_squad(one).split()) for one in (text, reference))
    both = written.total() + wanted.total()
    return 2 * (written & wanted).total() / both if both else 1.0
