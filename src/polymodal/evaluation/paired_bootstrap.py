"""Paired significance tests of two models on the same rows: bootstrap and McNemar."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from polymodal.evaluation.intervals import INDEPENDENT, Resampling, score_interval
from polymodal.evaluation.score_scale import ScoreScale
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

    The interval is that of `intervals.score_interval` for the difference, and the p-value that of the t test with the
    same standard deviation and degrees of freedom. So the p-value is below 1 - confidence_level if and only if the
    interval does not hold 0. Distributions `[rows, k]`, truth `[rows, ...]`, weight `[rows]`.
    """
    score_a, score_b = metric.weighted(a_distribution, truth), metric.weighted(b_distribution, truth)
    scale = ScoreScale(-math.inf, math.inf)
    found, p_value = score_interval(lambda drawn: score_a(drawn) - score_b(drawn), weight, scale, resampling)
    exact = metric.name == "accuracy" and resampling.groups is None
    return Difference(
        value=found.value,
        low=found.low,
        high=found.high,
        p_value=p_value,
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
