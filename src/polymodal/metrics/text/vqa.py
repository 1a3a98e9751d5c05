"""VQA accuracy: agreement with several annotators."""

from __future__ import annotations

import re

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import pairs, row_mean_metric

#: Number of agreeing annotators for full accuracy.
FULL_AGREEMENT = 3

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = {"a", "an", "the"}
_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_UNITS)}}

#: Contractions that are recognized without their apostrophe, by endings. Those that are also other words without it
#: (its, were, well, shell ...) are not listed.
_CONTRACTIONS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "n't've": "could had might should would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it somebody someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who y'all you",
    "'ll": "how it somebody someone something they what who why y'all you",
    "'s": "he how somebody someone that there what when where who why",
    "'re": "there they what why you",
    "": "ma'am o'clock y'all 'twas 'ow's'at",
}


def _without_an_apostrophe() -> dict[str, str]:
    """Every contraction by each spelling with one missing apostrophe."""
    whole = [stem + ending for ending, stems in _CONTRACTIONS.items() for stem in stems.split()]
    return {
        word[:index] + word[index + 1 :]: word
        for word in whole
        for index, character in enumerate(word)
        if character == "'"
    }


_WITH_APOSTROPHE = _without_an_apostrophe()


def normalize_vqa(answer: str) -> str:
    """Normalize an answer as the official VQA evaluation does.

    A punctuation mark is removed if it is next to a space anywhere in the answer, or if the answer has a number with a
    comma; otherwise it becomes a space. Periods that are not decimal points are removed. Then: lower case, zero to ten
    and none as digits, no a, an, the, and missing apostrophes restored.

    Example:
        >>> normalize_vqa("The two dogs, dont!")
        "2 dogs don't"
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    number = _COMMA_IN_NUMBER.search(text)
    kept = text
    for mark in _MARKS:
        kept = kept.replace(mark, "" if number or f"{mark} " in text or f" {mark}" in text else " ")
    words = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", kept).lower().split()]
    return " ".join(_WITH_APOSTROPHE.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy() -> Metric:
    """Mean over rows of VQA accuracy; the references of a row are the answers of its annotators.

    Each annotator is left out in turn, and the answer scores min(1, matches / 3) against the others; the accuracy of a
    row is the mean of these. With fewer than 3 references, a row scores 1 if the answer equals one of them. Answers are
    compared after `normalize_vqa`. (The official code skips normalization if all annotators gave the same answer; here
    answers are always normalized, so that "Yes." equals yes.)

    Source: Antol et al., "VQA: Visual Question Answering", ICCV 2015.
    """

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([_accuracy(text, references) for text, references in pairs(distribution, truth)])

    return row_mean_metric("vqa_accuracy", scores)


def _accuracy(text: str, references: tuple[str, ...]) -> float:
    answer = normalize_vqa(text)
    matches = [normalize_vqa(one) == answer for one in references]
    if len(matches) < FULL_AGREEMENT:
        return float(any(matches))
    return sum(min(1.0, (sum(matches) - match) / FULL_AGREEMENT) for match in matches) / len(matches)
