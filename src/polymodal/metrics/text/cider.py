"""CIDEr-D: consensus of a caption with its references, with TF-IDF weights of n-grams."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from polymodal.metrics.base import POSITIVE, Metric
from polymodal.metrics.text.base import pairs, row_mean_metric
from polymodal.metrics.text.word_tokenization import split_words

MAX_ORDER = 4
SIGMA = 6.0
WordTokenizer = Callable[[str], list[str]]


@dataclass(frozen=True)
class DocumentFrequency:
    """Number of rows, of `documents` rows, whose references contain each n-gram."""

    documents: int
    rows: Counter[tuple[str, ...]]

    @classmethod
    def of(cls, references: Iterable[Sequence[str]], tokenizer: WordTokenizer = split_words) -> DocumentFrequency:
        """Count the n-grams in the references of each row."""
        ngram_sets = [{ngram for text in texts for ngram in _ngrams(tokenizer(text))} for texts in references]
        return cls(len(ngram_sets), Counter(chain.from_iterable(ngram_sets)))

    def idf(self, ngram: tuple[str, ...]) -> float:
        """log(documents / rows with it); an n-gram of no reference counts as one of a single row."""
        return math.log(self.documents / max(1, self.rows[ngram]))


@dataclass(frozen=True)
class NgramVector:
    """TF-IDF weights of the n-grams of a text by order n, their norms, and the number of words."""

    weights: list[dict[tuple[str, ...], float]]
    norms: list[float]
    length: int

    def similarity(self, reference: NgramVector) -> float:
        """CIDEr-D of this text with one reference, without the factor 10."""
        total = 0.0
        for mine, norm, theirs, other in zip(self.weights, self.norms, reference.weights, reference.norms, strict=True):
            if norm > 0 and other > 0:
                common = sum(min(mine[ngram], theirs[ngram]) * theirs[ngram] for ngram in mine if ngram in theirs)
                total += common / (norm * other)
        return total / MAX_ORDER * math.exp(-((self.length - reference.length) ** 2) / (2 * SIGMA**2))


def cider(documents: Iterable[Sequence[str]] | None = None, tokenizer: WordTokenizer = split_words) -> Metric:
    """Mean over rows of CIDEr-D, from 0 to 10.

    The n-gram w of the text c has the weight g_w(c) = h_w(c) log(|I| / d_w), where h_w(c) is its count in c, and d_w is
    the number of the |I| rows with w in a reference. For m references s_j, and l words:

        CIDEr-D_n = 10 / m sum_j exp(-(l(c) - l(s_j))^2 / (2 * 6^2)) min(g(c), g(s_j)) . g(s_j) / (|g(c)| |g(s_j)|)
        CIDEr-D = mean of CIDEr-D_n over n = 1 to 4

    documents: references by row for d_w and |I|; None: those of the scored rows, each row once whatever its weight. A
        bootstrap keeps d_w and |I| fixed.

    NaN if every n-gram of the references occurs in every row (as with a single row): log(|I| / d_w) is then 0 for all
    n-grams.

    Source: Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015.
    """
    fixed_frequency = None if documents is None else DocumentFrequency.of(documents, tokenizer)

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        frequency = DocumentFrequency.of(truth, tokenizer) if fixed_frequency is None else fixed_frequency
        rows, has_weights = np.zeros(len(truth)), False
        for row, (text, references) in enumerate(pairs(distribution, truth)):
            candidate = _vector(tokenizer(text), frequency)
            reference_vectors = [_vector(tokenizer(reference), frequency) for reference in references]
            rows[row] = 10 * sum(candidate.similarity(one) for one in reference_vectors) / len(reference_vectors)
            has_weights = has_weights or any(norm > 0 for one in reference_vectors for norm in one.norms)
        return rows if has_weights else np.full(len(rows), np.nan)

    return row_mean_metric("cider", scores, bounds=POSITIVE)


def _ngrams(tokens: list[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(tokens[start : start + n]) for n in range(1, MAX_ORDER + 1) for start in range(len(tokens) - n + 1)
    )


def _vector(tokens: list[str], frequency: DocumentFrequency) -> NgramVector:
    weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(MAX_ORDER)]
    for ngram, count in _ngrams(tokens).items():
        weights[len(ngram) - 1][ngram] = count * frequency.idf(ngram)
    norms = [math.sqrt(sum(weight**2 for weight in one.values())) for one in weights]
    return NgramVector(weights, norms, len(tokens))
