"""Paired significance tests of two models on the same rows: bootstrap and McNemar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polymodal.evaluation.intervals import INDEPENDENT, Resampling, percentiles
from polymodal.metrics.base import Metric


@dataclass(frozen=True)
class Difference:
    """The score of a minus the score of b, with interval and two-sided p-value (null hypothesis: no difference).

    mcnemar: the exact McNemar p-value for accuracy without groups; else None
    """

    value: float
    low: float
    high: float
    p_value: float
    mcnemar: float | None


def paired_difference(
    metric: Metric,
    a_distribution: np.ndarray,
    b_distribution: np.ndarray,
    truth: np.ndarray,
    weight: np.ndarray,
    resampling: Resampling = INDEPENDENT,
) -> Difference:
    """Paired bootstrap: both models are scored on the same resamples, so the difficulty of rows cancels out
    (Berg-Kirkpatrick et al., "An Empirical Investigation of Statistical Significance in NLP", 2012).

    The p-value is twice the smaller fraction of resamples in which the difference is <= 0 or >= 0, with one
    resample added to both counts, at most 1. Distributions `[rows, k]`, truth `[rows, ...]`, weight `[rows]`.
    """
    score_a, score_b = metric.weighted(a_distribution, truth), metric.weighted(b_distribution, truth)
    resample = (weight * drawn for drawn in resampling.resample(len(weight)))
    differences = np.array([score_a(drawn) - score_b(drawn) for drawn in resample], dtype=np.float64)
    low, high = percentiles(differences, resampling.confidence_level)
    exact = metric.name == "accuracy" and resampling.groups is None
    return Difference(
        value=score_a(weight) - score_b(weight),
        low=low,
        high=high,
        p_value=_two_sided(differences[~np.isnan(differences)]),
        mcnemar=mcnemar(a_distribution, b_distribution, truth, weight) if exact else None,
    )


def mcnemar(a_distribution: np.ndarray, b_distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
    """Exact McNemar test (McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", 1947): tests whether each model is correct on half of the rows that exactly one model
    predicts correctly.

    Two-sided binomial p-value; 1 if the models never disagree. Each row of positive weight counts once.
    """
    from scipy.stats import binomtest

    real = weight > 0
    a_correct = (a_distribution.argmax(1) == truth)[real]
    b_correct = (b_distribution.argmax(1) == truth)[real]
    only_a, only_b = int((a_correct & ~b_correct).sum()), int((b_correct & ~a_correct).sum())
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def _two_sided(differences: np.ndarray) -> float:
    if len(differences) == 0:
        return float("nan")
    smaller = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (len(differences) + 1)))
