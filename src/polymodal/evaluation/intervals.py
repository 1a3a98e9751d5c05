"""Bootstrap t intervals of scores. `benchmarks.interval_coverage` measures how often they hold the true score."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from polymodal.evaluation.score_scale import ScoreScale
from polymodal.metrics.base import Metric

#: Jackknife values of a score: the number of times it is computed with rows left out.
MAX_JACKKNIFE = 200


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
    confidence_level: the fraction of samples whose interval holds the true score
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
    """A metric with its bootstrap t interval (`score_interval`).

    distribution `[rows, k]`, truth `[rows, ...]`, weight `[rows]`. With `samples=0`, and with a single row or group of
    positive weight, the bounds are NaN.
    """
    return score_interval(metric.weighted(distribution, truth), weight, ScoreScale(*metric.bounds), resampling)[0]


def score_interval(
    score: Callable[[np.ndarray], float], weight: np.ndarray, scale: ScoreScale, resampling: Resampling
) -> tuple[Interval, float]:
    """A score of row weights with its confidence interval, and the two-sided p-value of the score 0 (NaN if `scale` has
    bounds), by `t_interval`. NaN if half of the resamples are undefined."""
    value = score(weight)
    drawn = np.array([score(weight * counts) for counts in resampling.resample(len(weight))], dtype=np.float64)
    units = _units(weight, resampling.groups)
    if not math.isfinite(value) or 2 * int(np.isfinite(drawn).sum()) <= len(drawn):
        return Interval(value, math.nan, math.nan), math.nan

    def left_out() -> np.ndarray:
        blocks = np.where(units < 0, -1, units % MAX_JACKKNIFE)
        parts = range(min(int(units.max()) + 1, MAX_JACKKNIFE))
        return np.array([score(np.where(blocks == part, 0, weight)) for part in parts], dtype=np.float64)

    number = int(units.max(initial=-1)) + 1
    return t_interval(value, drawn, left_out, scale, units=number, confidence_level=resampling.confidence_level)


def t_interval(
    value: float,
    drawn: np.ndarray,
    left_out: Callable[[], np.ndarray],
    scale: ScoreScale,
    *,
    units: int,
    confidence_level: float,
) -> tuple[Interval, float]:
    """The bootstrap t interval of a score, and the two-sided p-value of the score 0 (NaN if `scale` has bounds):

        g(value) +- t * sqrt(n / (n - 1)) * sd,   n = `units`

    g is the transformation of `scale`, sd the standard deviation of g over the resamples `drawn`, and t the quantile of
    Student's distribution. The factor corrects the narrowness of the bootstrap (Hesterberg, "What Teachers Should Know
    About the Bootstrap", 2015, section 3.2). With two bounds, there are n - 1 degrees of freedom; else those of
    `degrees_of_freedom`. With two bounds, or if a resample reaches a bound, sd is that of the scores times the slope of
    g (the delta method), since g is infinite at a bound.

    At a bound of its scale, a score has no spread. With two bounds, the interval then ends where n right answers in
    a row have the probability (1 - confidence_level) / 2 (Hanley and Lippman-Hand, "If Nothing Goes Wrong, Is
    Everything All Right?", 1983); with one bound, it has the quantiles of the resamples.

    drawn: `[samples]`; undefined ones are ignored
    left_out: computes the score without each unit, or without each of `MAX_JACKKNIFE` blocks of units
    units: the number of independent rows, or of groups; NaN bounds for fewer than 2
    """
    from scipy.special import stdtr, stdtrit  # Student's distribution function and its inverse

    drawn = drawn[np.isfinite(drawn)]
    if units < 2 or not len(drawn):
        return Interval(value, math.nan, math.nan), math.nan
    if not scale.is_inside(np.array(value)):
        return Interval(value, *_at_bound(value, drawn, scale, units, confidence_level)), math.nan
    if scale.has_two_bounds or not scale.is_inside(drawn).all():
        spread = float(drawn.std()) * scale.slope(value)
    else:
        spread = float(scale.forward(drawn).std())
    spread *= math.sqrt(units / (units - 1))
    freedom = float(units - 1)
    if not scale.has_two_bounds and spread > 0:
        freedom = degrees_of_freedom(left_out(), units)
    reach = float(stdtrit(freedom, (1 + confidence_level) / 2)) * spread
    center = float(scale.forward(np.array(value)))
    low, high = (float(scale.backward(np.array(end))) for end in (center - reach, center + reach))
    p_value = math.nan
    if scale.has_no_bound:
        p_value = 2 * float(stdtr(freedom, -abs(value) / spread)) if spread > 0 else float(value == 0)
    return Interval(value, low, high), p_value


def degrees_of_freedom(left_out: np.ndarray, units: int) -> float:
    """The degrees of freedom of the variance of a score of n `units`, from the kurtosis k of its jackknife values:

        min(n - 1, 2 m / (k - 1))   for m values

    A variance of m values has the relative variance (k - 1) / m, and a chi-square variance with f degrees of freedom
    has 2 / f (Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", 1946). So a few rows
    with large errors widen the interval. k is corrected for the number of values (Joanes and Gill, "Comparing Measures
    of Sample Skewness and Kurtosis", 1998).
    """
    values = left_out[np.isfinite(left_out)]
    deviation = values - values.mean() if len(values) else values
    m, variance = len(deviation), float((deviation**2).mean()) if len(values) else 0.0
    if m < 4 or variance <= 0:
        return float(max(1, units - 1))
    excess = float((deviation**4).mean()) / variance**2 - 3
    kurtosis = 3 + (excess * (m + 1) + 6) * (m - 1) / ((m - 2) * (m - 3))
    return float(min(units - 1, max(1.0, 2 * m / max(kurtosis - 1, 1e-9))))


def _units(weight: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """The number of the independent unit (row or group) of each row, `[rows]`; -1 for rows of weight 0."""
    units = np.full(len(weight), -1)
    real = weight > 0
    units[real] = np.arange(int(real.sum())) if groups is None else np.unique(groups[real], return_inverse=True)[1]
    return units


def _at_bound(
    value: float, drawn: np.ndarray, scale: ScoreScale, units: int, confidence_level: float
) -> tuple[float, float]:
    tail = (1 - confidence_level) / 2
    if scale.has_two_bounds:
        reach = (scale.upper - scale.lower) * (1 - tail ** (1 / units))
        return (value, value + reach) if value <= scale.lower else (value - reach, value)
    return percentiles(drawn, confidence_level)
