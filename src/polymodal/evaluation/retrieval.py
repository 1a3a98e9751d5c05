"""Scores of finding one input of a row by another, as they stand in `metrics.json` beside those of outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from polymodal.evaluation.evaluate import Scores
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.evaluation.scores import Score
from polymodal.metrics.retrieval import RETRIEVAL_METRICS, random_baseline, rank_vectors, relevance
from polymodal.recipe.evaluation import EvaluationOptions


def score_retrieval(
    embeddings: dict[str, np.ndarray],
    items: dict[str, np.ndarray],
    pairs: list[tuple[str, str]],
    options: EvaluationOptions,
    *,
    seed: int,
    groups: np.ndarray | None = None,
) -> Scores:
    """Recall@1, 5 and 10, median rank and mean average precision of finding one input by another: for each of `pairs`
    in both directions `scores["image -> caption"]["recall@1"]`, with intervals and with the random baseline.

    embeddings: by input, `[rows, size]` unit vectors, NaN in rows that lack the input
    items: by input, `[rows]`, the item of each row, -1 where it is missing. Rows that share an item are one query and
        one candidate, and any row of an item that brings it together with the other makes the two belong together.
    groups: `[rows]`, or None for independent queries. Intervals draw whole groups; a query belongs to the group of
        its first row. Candidates stay as they are.
    """
    scores: Scores = {}
    for one, other in pairs:
        scores[f"{one} -> {other}"] = _direction(embeddings, items, one, other, options, seed, groups)
        scores[f"{other} -> {one}"] = _direction(embeddings, items, other, one, options, seed, groups)
    return scores


def _direction(
    embeddings: dict[str, np.ndarray],
    items: dict[str, np.ndarray],
    by: str,
    wanted: str,
    options: EvaluationOptions,
    seed: int,
    groups: np.ndarray | None,
) -> dict[str, Any]:
    related = relevance(_embedded(embeddings[by], items[by]), _embedded(embeddings[wanted], items[wanted]))
    ranking = rank_vectors(embeddings[by][related.queries], embeddings[wanted][related.candidates], related.positives)
    floor = random_baseline(ranking.positives, ranking.candidates)
    distribution, weight = ranking.distribution(), np.ones(len(related.queries))
    clusters = None if groups is None else groups[related.queries]
    scores = {}
    for metric in RETRIEVAL_METRICS:
        found = bootstrap(
            metric,
            distribution,
            distribution,
            weight,
            Resampling(options.bootstrap_samples, options.confidence_level, seed, clusters),
        )
        scores[metric.name] = Score(
            value=_finite(found.value),
            low=_finite(found.low),
            high=_finite(found.high),
            baseline=_finite(floor[metric.name]),
            greater_is_better=metric.greater_is_better,
        ).model_dump()
    return scores


def _embedded(vectors: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The items of the rows that have an embedding; -1 in the others."""
    return np.where(np.isnan(vectors).any(1), -1, items)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
