"""Cross-modal retrieval scores, in the format of `metrics.json`."""

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
    """Recall@1, 5 and 10, median rank and mean average precision of cross-modal retrieval: for each of `pairs` in both
    directions `scores["image -> caption"]["recall@1"]`, with intervals and with the random baseline.

    embeddings: by input, `[rows, dim]` unit vectors, NaN in rows without the input
    items: by input, `[rows]`, the item of each row, -1 if missing. Rows that share an item are one query and one
        candidate. Two items are a positive pair if they occur together in any row.
    groups: `[rows]`, or None for independent queries. Intervals resample whole groups; a query belongs to the group of
        its first row. The candidates do not change.
    """
    scores: Scores = {}
    for first, second in pairs:
        scores[f"{first} -> {second}"] = _score_direction(embeddings, items, first, second, options, seed, groups)
        scores[f"{second} -> {first}"] = _score_direction(embeddings, items, second, first, options, seed, groups)
    return scores


def _score_direction(
    embeddings: dict[str, np.ndarray],
    items: dict[str, np.ndarray],
    query: str,
    candidate: str,
    options: EvaluationOptions,
    seed: int,
    groups: np.ndarray | None,
) -> dict[str, Any]:
    related = relevance(_embedded(embeddings[query], items[query]), _embedded(embeddings[candidate], items[candidate]))
    ranking = rank_vectors(
        embeddings[query][related.queries], embeddings[candidate][related.candidates], related.positives
    )
    baseline = random_baseline(ranking.positives, ranking.candidates)
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
            baseline=_finite(baseline[metric.name]),
            greater_is_better=metric.greater_is_better,
            rows=len(related.queries),
        ).model_dump()
    return scores


def _embedded(vectors: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The items of rows with an embedding; -1 for the other rows."""
    return np.where(np.isnan(vectors).any(1), -1, items)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
