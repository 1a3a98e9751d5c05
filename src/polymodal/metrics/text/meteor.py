"""METEOR of nltk, with exact and stem matches."""

from __future__ import annotations

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import pairs, require_package, row_mean_metric
from polymodal.metrics.text.word_tokenization import split_words


class NoSynonyms:
    """Replaces WordNet in nltk, which would require a download: no word has a synonym."""

    def synsets(self, word: str) -> list[object]:
        return []


def meteor() -> Metric:
    """Mean over rows of METEOR from 0 to 1 with the best reference, over `split_words`.

    Words match if they are equal, or else if their Porter stems are. With m matches in c contiguous chunks, and P = m /
    words of the text, R = m / words of the reference:

        METEOR = (1 - 0.5 (c / m)^3) P R / (0.9 P + 0.1 R)

    WordNet synonyms are not used, so that nothing is downloaded. Scores are slightly lower than with them, and are not
    those of METEOR 1.5, which also has paraphrases and other parameters.

    Source: Lavie and Agarwal, "METEOR: An Automatic Metric for MT Evaluation with High Levels of Correlation with Human
    Judgments", WMT 2007.

    Raises:
        MissingExtraError: nltk is not installed.
    """
    score = require_package("nltk.translate.meteor_score", "nltk", "the metric meteor").meteor_score

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array(
            [
                score([split_words(reference) for reference in references], split_words(text), wordnet=NoSynonyms())
                for text, references in pairs(distribution, truth)
            ]
        )

    return row_mean_metric("meteor", scores)
