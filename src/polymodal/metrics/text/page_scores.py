"""Scores of written web pages of the small language (`metrics.code_eval.html_subset`), by drawing them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from polymodal.core.errors import DataError
from polymodal.metrics.base import Metric
from polymodal.metrics.code_eval.html_renderer import render
from polymodal.metrics.code_eval.html_subset import PageError, parse, walk
from polymodal.metrics.text.base import row_mean_metric, pairs
from polymodal.metrics.text.fact_scores import fact_f1


def page_validity() -> Metric:
    """The share of pages that are in the small language, so that they can be drawn."""

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([_picture(text) is not None for text, _ in pairs(distribution, truth)])

    return row_mean_metric("page_validity", scores)


def page_similarity() -> Metric:
    """The mean similarity of the page's picture to that of the wanted page, 0 to 1.

    With the ink of a pixel's channel, a = 255 - value, of the one and b of the other picture, the similarity is
    sum min(a, b) / sum max(a, b), the weighted Jaccard index: 1 for equal pictures, 0 for an empty page and for one
    that does not render. White ground, which all pages share, counts nothing, so the number is far stricter than a mean
    difference; a text that lies one line too low is a miss. Of several references the likest counts.

    Source: Ioffe, "Improved Consistent Sampling, Weighted Minhash and L1 Sketching", ICDM 2010.
    """

    def scores(distribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array(
            [
                max(_likeness(_picture(text), _wanted(one, row)) for one in references)
                for row, (text, references) in enumerate(pairs(distribution, truth))
            ]
        )

    return row_mean_metric("page_similarity", scores)


def element_f1() -> Metric:
    """F1 of a page's elements over a corpus: tag, the tags it lies in, colour and text must be right, its place need
    not. A page that is not in the small language has none."""
    return replace(fact_f1(_elements), name="element_f1")


def _picture(page: str) -> np.ndarray | None:
    """`[height, width, 3]` ink, 0 to 255; None for a page that is not in the language."""
    try:
        return 255 - np.asarray(render(page), dtype=np.int64)
    except PageError:
        return None


def _wanted(page: str, row: int) -> np.ndarray:
    picture = _picture(page)
    if picture is None:
        raise DataError("the reference is not a page of the small language", row=row)
    return picture


def _likeness(found: np.ndarray | None, wanted: np.ndarray) -> float:
    if found is None:
        return 0.0
    ink = np.maximum(found, wanted).sum()
    return float(np.minimum(found, wanted).sum() / ink) if ink else 1.0


def _elements(page: str) -> set:
    """The elements of a page; equal ones are numbered, so that each counts."""
    try:
        found = [(path, element.colour, element.text) for path, element in walk(parse(page))]
    except PageError:
        return set()
    seen: Counter[tuple[str, str, str]] = Counter()
    numbered = set()
    for one in found:
        seen[one] += 1
        numbered.add((*one, seen[one]))
    return numbered
