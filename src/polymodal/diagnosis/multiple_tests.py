"""Correction of p-values for many looks, and the one-sided rank test that the searches use."""

from __future__ import annotations

import numpy as np


def holm(p_values: np.ndarray) -> np.ndarray:
    """The p-values `[n]` corrected for n tests, so that one wrong rejection among all has at most their level (Holm, "A
    Simple Sequentially Rejective Multiple Test Procedure", 1979).

    Example:
        >>> holm(np.array([0.04, 0.01, 0.5])).tolist()
        [0.08, 0.03, 0.5]
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return corrected


def p_larger(some: np.ndarray, others: np.ndarray) -> float:
    """The one-sided p-value that numbers of `some` are larger than those of `others`, with ties (Mann & Whitney, "On a
    Test of Whether one of Two Random Variables is Stochastically Larger than the Other", 1947); 1 if all are equal."""
    from scipy.stats import mannwhitneyu  # slow to import

    if not len(some) or not len(others) or np.ptp(np.concatenate([some, others])) == 0:
        return 1.0
    return float(mannwhitneyu(some, others, alternative="greater", method="asymptotic").pvalue)
