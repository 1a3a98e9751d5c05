"""Bootstrap intervals of scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from polymodal.metrics.base import Metric


@dataclass(frozen=True)
class Interval:
    """A score and its interval; NaN where undefined."""

    value: float
    low: float
    high: float


def resample_counts(rows: int, samples: int, seed: int, groups: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """The number of times each row occurs in each of `samples` resamples with replacement, `[rows]` int64.

    With `groups [rows]`, whole groups are drawn (the cluster bootstrap). Rows of one patient or one recording are not
    independent, and drawing single rows would give intervals that are too narrow.
    """
    generator = np.random.default_rng(seed)
    member = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(member.max(initial=-1)) + 1
    for _ in range(samples):
        drawn = np.bincount(generator.integers(units, size=units), minlength=units) if units else member
        yield drawn if groups is None else drawn[member]


@dataclass(frozen=True)
class Resampling:
    """Options of the bootstrap.

    samples, seed: number of resamples and random seed
    groups: `[rows]`; None for independent rows
    confidence_level: the fraction of resamples inside the interval
    """

    samples: int = 1000
    confidence_level: float = 0.95
    seed: int = 0
    groups: np.ndarray | None = None

    def resample(self, rows: int) -> Iterator[np.ndarray]:
        """The number of times each row occurs in each resample, `[rows]` int64."""
        return resample_counts(rows, self.samples, self.seed, self.groups)


INDEPENDENT = Resampling()


def percentiles(values: np.ndarray, confidence_level: float) -> tuple[float, float]:
    """The central interval that contains the fraction `confidence_level` of `values`.

    Undefined resamples (NaN) are ignored. If more than half are undefined, the interval is NaN.
    """
    defined = values[~np.isnan(values)]
    if len(defined) == 0 or 2 * len(defined) < len(values):
        return float("nan"), float("nan")
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(
    metric: Metric,
    distribution: np.ndarray,
    truth: np.ndarray,
    weight: np.ndarray,
    resampling: Resampling = INDEPENDENT,
) -> Interval:
    """A metric with its percentile bootstrap interval (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13): the metric is computed on resamples of the rows, and the bounds
    are the (1 - confidence_level) / 2 quantiles on both sides.

    distribution `[rows, k]`, truth `[rows, ...]`, weight `[rows]`. With `samples=0` the bounds are NaN.
    """
    score = metric.weighted(distribution, truth)
    scores = [score(weight * drawn) for drawn in resampling.resample(len(weight))]
    low, high = percentiles(np.array(scores, dtype=np.float64), resampling.confidence_level)
    return Interval(score(weight), low, high)
