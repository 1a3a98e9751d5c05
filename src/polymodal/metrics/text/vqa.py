"""VQA accuracy: how many annotators gave the answer."""

from __future__ import annotations

import re

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import row_mean_metric, pairs

#: How many annotators make an answer fully right.
AGREEING = 3

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_ARTICLES = {"a", "an", "the"}
_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_UNITS)}}

#: Words that are recognised when an apostrophe was left out, by their endings. Those that would then be other words
#: (its, were, well, shell ...) are not among them.
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
    """Every contraction by each spelling in which one of its apostrophes is missing."""
    whole = [stem + ending for ending, stems in _CONTRACTIONS.items() for stem in stems.split()]
    return {
        word[:place] + word[place + 1 :]: word
        for word in whole
        for place, character in enumerate(word)
        if character == "'"
    }


_RESTORED = _without_an_apostrophe()


def normalize_vqa(answer: str) -> str:
    """An answer as the evaluation of VQA compares it.

    A mark of punctuation is dropped if it stands next to a space anywhere in the answer, or if the answer has a
    number with a comma; otherwise a space takes its place. Full stops that are no decimal point are dropped. Then:
    lower case, zero to ten and none as digits, no a, an, the, and left-out apostrophes restored.
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    number = _COMMA_IN_NUMBER.search(text)
    kept = text
    for mark in _MARKS:
        kept = kept.replace(mark, "" if number or f"{mark} " in text or f" {mark}" in text else " ")
    words = [_NUMBERS.get(word, word) for word in _FULL_STOP.sub("", kept).lower().split()]
    return " ".join(_RESTORED.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy() -> Metric:
    """The mean over rows of VQA accuracy; the references of a row are the answers of its annotators.

    Each annotator is left out in turn, and the answer scores min(1, matches / 3) against the others; the mean of
    these is the row's accuracy. With fewer than 3 references, the row scores 1 if the answer equals any of them.
    Answers are compared after `normalize_vqa`. (The authors' program leaves the answers as they are where all
    annotators wrote the same; here they are normalised there too, so that "Yes." is yes.)

    Source: Antol et al., "VQA: Visual Question Answering", ICCV 2015.
    """

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([_accuracy(text, references) for text, references in pairs(distribution, truth)])

    return row_mean_metric("vqa_accuracy", scores)


def _accuracy(text: str, references: tuple[str, ...]) -> float:
    answer = normalize_vqa(text)
    matches = [normalize_vqa(one) == answer for one in references]
    if len(matches) < AGREEING:
        return float(any(matches))
    return sum(min(1.0, (sum(matches) - one) / AGREEING) for one in matches) / len(matches)
