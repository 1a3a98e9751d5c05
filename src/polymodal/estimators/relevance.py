"""Scales of groups of columns by their share in a fitted linear model, so that noise columns cost little."""

from __future__ import annotations

import numpy as np

from polymodal.estimators.design_matrix import Coefficients, DesignMatrix

#: Scales are at least this part of the largest one.
SMALLEST = 0.01


def relevance_scales(x: DesignMatrix, groups: np.ndarray, coefficients: Coefficients, weight: np.ndarray) -> np.ndarray:
    """A factor for each column `[columns]` float32.

    The columns of a group get a total variance that is proportional to the standard deviation of the part of the
    prediction that the group gives, as in one step of multiple kernel learning with the 1-norm (Kloft et al., "lp-Norm
    Multiple Kernel Learning", 2011).

    groups: the group of each column, from 0
    """
    weight = weight / weight.sum()
    mean, square = x.moments(weight)
    variance = np.bincount(groups, (square - mean**2).clip(0))
    shares = np.zeros(len(variance))
    for group in range(len(variance)):
        columns = np.flatnonzero(groups == group)
        values = x.take_columns(columns).dot(coefficients[columns]).astype(np.float64)
        shares[group] = np.sqrt((weight @ (values - weight @ values) ** 2).sum())
    if not shares.any():
        return np.ones(len(groups), np.float32)
    theta = np.maximum(shares / shares.max(), SMALLEST)
    factors = np.sqrt(theta / np.where(variance > 0, variance, 1.0))
    return np.asarray(factors[groups], np.float32)
