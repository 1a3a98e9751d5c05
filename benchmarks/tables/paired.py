"""Comparisons of contestants on the same folds, and of their means over many sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """The mean difference of two contestants on the folds of one set; above 0 the first is better.

    p_value: two-sided; NaN with a single fold
    """

    mean: float
    p_value: float
    folds: int

    @property
    def is_below(self) -> bool:
        """Whether the first is significantly worse."""
        return self.mean < 0 and self.p_value < LEVEL


def compare_folds(ours: list[float], reference: list[float], test_ratio: float) -> Difference:
    """The corrected resampled t-test of Nadeau and Bengio ("Inference for the generalization error", 2003).

    The folds of cross-validation share training rows, so the plain variance of the mean is too small. The corrected
    one is `(1 / folds + test rows / training rows) * variance`; t has `folds - 1` degrees of freedom.

    ours, reference: the scores on the same folds
    test_ratio: test rows divided by training rows
    """
    differences = np.subtract(ours, reference)
    count, mean = len(differences), float(np.mean(differences))
    if count < 2:
        return Difference(mean, math.nan, count)
    variance = float(np.var(differences, ddof=1)) * (1 / count + test_ratio)
    if variance == 0:
        return Difference(mean, 1.0 if mean == 0 else 0.0, count)
    return Difference(mean, float(2 * stats.t.sf(abs(mean) / math.sqrt(variance), count - 1)), count)


def compare_sets(ours: list[float], reference: list[float]) -> float:
    """The p-value of Wilcoxon's signed-rank test over the mean scores of sets (Demšar, "Statistical comparisons of
    classifiers over multiple data sets", 2006); NaN if no set differs."""
    differences = np.subtract(ours, reference)
    return float(stats.wilcoxon(differences).pvalue) if np.any(differences != 0) else math.nan


def mean_ranks(scores: Mapping[str, Mapping[str, float]], contestants: list[str]) -> dict[str, float]:
    """The mean rank of each contestant over the sets (1 is best; ties share the mean of their ranks).

    scores: set -> contestant -> mean score. A contestant that cannot run on a set, or failed on it, shares the last
        ranks there.
    """
    ranks = []
    for by_contestant in scores.values():
        values = [by_contestant.get(name, -math.inf) for name in contestants]
        ranks.append(stats.rankdata([-value for value in values]))
    return {name: float(np.mean([one[index] for one in ranks])) for index, name in enumerate(contestants)}
