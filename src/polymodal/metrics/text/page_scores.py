"""Metrics of generated web pages in the HTML subset (`metrics.code_eval.html_subset`), by rendering them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from polymodal.core.errors import DataError
from polymodal.metrics.base import Metric
from polymodal.metrics.code_eval.html_subset import PageError, parse, walk
from polymodal.metrics.text.base import pairs, row_mean_metric
from polymodal.metrics.text.fact_scores import fact_f1


def page_validity() -> Metric:
    """Fraction of texts that are valid pages of the HTML subset, so that they can be rendered."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([_inverted_image(text) is not None for text, _ in pairs(distribution, truth)])

    return row_mean_metric("page_validity", scores)


def page_similarity() -> Metric:
    """Mean pixel similarity of the rendered page to the rendered reference, 0 to 1.

    With the inverted channel values a = 255 - value of the one and b of the other image, the similarity is
    sum min(a, b) / sum max(a, b), the weighted Jaccard index: 1 for equal images, 0 for an empty or an invalid page.
    The white background, which all pages share, does not count, so that the metric is much stricter than a mean
    difference; a text one line too low is a miss. With several references, the most similar one counts.

    Source: Ioffe, "Improved Consistent Sampling, Weighted Minhash and L1 Sketching", ICDM 2010.
    """

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array(
            [
                max(_weighted_jaccard(_inverted_image(text), _reference_image(one, row)) for one in references)
                for row, (text, references) in enumerate(pairs(distribution, truth))
            ]
        )

    return row_mean_metric("page_similarity", scores)


def element_f1() -> Metric:
    """Corpus F1 of page elements. Tag, parent tags, color and text must match, the position need not. An invalid page
    has no elements."""
    return replace(fact_f1(_elements), name="element_f1")


def _inverted_image(page: str) -> np.ndarray | None:
    """Inverted image `[height, width, 3]`, 0 to 255; None for an invalid page."""
    try:
        from polymodal.metrics.code_eval.html_renderer import render  # imports fonts

        return 255 - np.asarray(render(page), dtype=np.int64)
    except PageError:
        return None


def _reference_image(page: str, row: int) -> np.ndarray:
    image = _inverted_image(page)
    if image is None:
        raise DataError("the reference is not a valid page of the HTML subset", row=row)
    return image


def _weighted_jaccard(image: np.ndarray | None, reference: np.ndarray) -> float:
    if image is None:
        return 0.0
    union = np.maximum(image, reference).sum()
    return float(np.minimum(image, reference).sum() / union) if union else 1.0


def _elements(page: str) -> set:
    """Elements of a page; equal ones are numbered, so that each counts."""
    try:
        keys = [(path, element.color, element.text) for path, element in walk(parse(page))]
    except PageError:
        return set()
    counts: Counter[tuple[str, str, str]] = Counter()
    numbered = set()
    for key in keys:
        counts[key] += 1
        numbered.add((*key, counts[key]))
    return numbered
