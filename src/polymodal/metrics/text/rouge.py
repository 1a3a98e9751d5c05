"""ROUGE-1, ROUGE-2 and ROUGE-L, equal to the package rouge_score."""

from __future__ import annotations

from typing import Literal

import numpy as np

from polymodal.metrics.base import Metric
from polymodal.metrics.text.base import pairs, require_package, row_mean_metric
from polymodal.metrics.text.word_tokenization import split_words


class MultilingualTokenizer:
    """Tokenizer of the metrics `rouge..._multilingual`: `split_words`."""

    def tokenize(self, text: str) -> list[str]:
        return split_words(text)


def rouge(kind: Literal["rouge1", "rouge2", "rougeL"], any_script: bool = False) -> Metric:
    """Mean over rows of the F1 of common words, common word pairs, or the longest common subsequence.

        F1 = 2 P R / (P + R),   P = common / in the text,   R = common / in the reference

    With several references, the one with the best F1 counts. The tokenizer of rouge_score reads only the letters a to z
    and digits. With `any_script`, words of any script are read and the metric is named `<kind>_multilingual`. No
    stemming. A row whose references have no word (an emoji) scores 0, as in rouge_score. NaN if the words of all
    references are of other scripts, because 0 would then say nothing about the texts.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL Workshop, 2004.

    Raises:
        MissingExtraError: rouge-score is not installed.
    """
    name = f"{kind}_multilingual" if any_script else kind
    package = require_package("rouge_score.rouge_scorer", "rouge-score", f"the metric {name}")
    tokenizer = MultilingualTokenizer() if any_script else package.tokenizers.DefaultTokenizer()
    scorer = package.RougeScorer([kind], tokenizer=tokenizer)

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        both = list(pairs(distribution, truth))
        references = [reference for _, some in both for reference in some]
        if any(map(_has_word, references)) and not any(tokenizer.tokenize(reference) for reference in references):
            return np.full(len(both), np.nan)
        return np.array([scorer.score_multi(references, text)[kind].fmeasure for text, references in both])

    return row_mean_metric(name, scores)


def _has_word(text: str) -> bool:
    return any(character.isalnum() for character in text)
