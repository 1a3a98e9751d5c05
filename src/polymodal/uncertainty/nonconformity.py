"""Nonconformity scores: how unlike a prediction an answer is. Conformal sets hold the answers with low scores."""

from __future__ import annotations

import math

import numpy as np


def lac_scores(probabilities: np.ndarray) -> np.ndarray:
    """The score 1 - p of every class or label, `[rows, k]` (LAC: Sadinle, Lei & Wasserman, "Least Ambiguous Set-Valued
    Classifiers With Bounded Error Levels", 2019). It gives the smallest sets on average.

    Example:
        >>> lac_scores(np.array([[0.75, 0.25]])).tolist()
        [[0.25, 0.75]]
    """
    return np.asarray(1 - probabilities)


def aps_scores(probabilities: np.ndarray) -> np.ndarray:
    """The probability of all more probable classes and half of the class itself, `[rows, k]` (APS: Romano, Sesia &
    Candes, "Classification with Valid and Adaptive Coverage", 2020, with the number 1/2 in place of a random one, so
    that equal rows have equal sets). It gives larger sets to rows that are hard.

    Example:
        >>> aps_scores(np.array([[0.25, 0.75]])).tolist()
        [[0.875, 0.375]]
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    scores = np.empty_like(ranked)
    np.put_along_axis(scores, order, np.cumsum(ranked, axis=1) - ranked / 2, axis=1)
    return scores


def conformal_quantile(scores: np.ndarray, coverage: float) -> float:
    """The score that a new exchangeable row does not exceed with a probability of at least `coverage`: the
    ceil((n + 1) coverage)-th smallest of n scores (split conformal prediction: Papadopoulos et al., "Inductive
    Confidence Machines for Regression", 2002). Infinity if n is too small for that.

    Example:
        >>> conformal_quantile(np.arange(1, 10), 0.9), conformal_quantile(np.arange(1, 9), 0.9)
        (9.0, inf)
    """
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else math.inf


def fewest_rows(coverage: float) -> int:
    """The smallest number of calibration rows with a finite `conformal_quantile`.

    Example:
        >>> fewest_rows(0.9), fewest_rows(0.95)
        (9, 19)
    """
    return math.ceil(round(coverage / (1 - coverage), 9))
