"""Scales of groups of columns by their statistical dependence on the target, so that noise columns cost little."""

from __future__ import annotations

import numpy as np

from polymodal.estimators.dense_columns import scale_to_length
from polymodal.estimators.kernel_machine import gaussian_kernel

#: Rows on which dependence is measured.
MAX_ROWS = 1000
#: The dependence of noise is assumed to be at most this many standard deviations above its mean.
NOISE_DEVIATIONS = 2.0
#: The variance of a group is at least this part of the largest one.
SMALLEST = 0.001


def dependence_scales(
    rows: np.ndarray, groups: np.ndarray, outcomes: np.ndarray, weight: np.ndarray, seed: int
) -> np.ndarray:
    """A factor for each column `[columns]` float32; the mean squared length of the rows is 1 again. Ones for a single
    group, or if no group depends on the target.

    The dependence of a group is the Hilbert-Schmidt independence criterion of a Gaussian kernel and the outcomes, less
    what noise has (Gretton et al., "Measuring Statistical Dependence with Hilbert-Schmidt Norms", 2005; Cortes, Mohri
    and Rostamizadeh, "Algorithms for Learning Kernels Based on Centered Alignment", 2012). It finds relations that are
    not linear; a dependence that shows only in several groups together is not found. The variance of a group becomes
    proportional to it.

    rows: `[rows, columns]`
    groups: the group of each column, from 0
    outcomes: `[rows, k]`, centered
    weight: `[rows]`
    """
    count = int(groups.max(initial=-1)) + 1
    ones = np.ones(len(groups), np.float32)
    if count < 2:
        return ones
    part = np.random.default_rng(seed).permutation(len(rows))[:MAX_ROWS]
    share = weight[part] / weight[part].sum()
    dependence, variance = np.zeros(count), np.zeros(count)
    for group in range(count):
        values = rows[:, groups == group].astype(np.float64)
        values -= weight @ values / weight.sum()
        variance[group] = (weight @ values**2).sum() / weight.sum()
        if variance[group] > 0:
            dependence[group] = _dependence(values[part], outcomes[part], share, float(weight[part].sum()))
    if not dependence.any():
        return ones
    theta = np.maximum(dependence / dependence.max(), SMALLEST)
    factors = np.sqrt(theta / np.where(variance > 0, variance, 1.0)).astype(np.float32)[groups]
    return np.asarray(factors * scale_to_length(rows * factors, weight), np.float32)


def _dependence(values: np.ndarray, outcomes: np.ndarray, share: np.ndarray, count: float) -> float:
    """The dependence of outcomes on values, above that of noise; 0 for none.

    share: `[rows]`, the weights of the rows; they sum to 1
    count: the sum of the weights: the number of rows, if a row of weight 2 is two rows
    """
    length = float(share @ (values**2).sum(axis=1))
    kernel = gaussian_kernel(values, values, 0.5 / length) if length else np.ones((len(share), len(share)))
    to_mean = kernel @ share
    kernel += share @ to_mean - to_mean - to_mean[:, None]
    size = float(share @ kernel**2 @ share) ** 0.5
    if size < SMALLEST:
        return 0.0
    truth = share[:, None] * (outcomes - share @ outcomes)
    product = (outcomes - share @ outcomes).T @ truth
    found = float((truth * (kernel @ truth)).sum())
    chance = float(np.trace(product)) * float(share @ np.diag(kernel)) / count
    deviation = 2**0.5 * size * float(np.linalg.norm(product)) / count
    return max(0.0, found - chance - NOISE_DEVIATIONS * deviation) / size
