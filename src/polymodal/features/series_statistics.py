"""Statistics of time series: distribution, course, autocorrelation and spectrum of each channel."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
SEGMENTS, LAGS, BANDS = 8, (1, 2, 4, 8), 8
_PER_CHANNEL = 4 + len(QUANTILES) + 5 + SEGMENTS + len(LAGS) + BANDS
#: With more channels than this, correlations between channels are left out.
MAX_CORRELATED = 16


class _Statistics(NamedTuple):
    mean: Any
    std: Any
    low: Any
    high: Any
    quantile: Any


#: The functions that ignore gaps take several times as long.
_WITH_GAPS = _Statistics(np.nanmean, np.nanstd, np.nanmin, np.nanmax, np.nanquantile)
_WITHOUT_GAPS = _Statistics(np.mean, np.std, np.min, np.max, np.quantile)


def num_series_statistics(channels: int) -> int:
    """The number of statistics of a series."""
    pairs = channels * (channels - 1) // 2 if channels <= MAX_CORRELATED else 0
    return _PER_CHANNEL * channels + pairs + 1


def series_statistics(values: np.ndarray) -> np.ndarray:
    """Statistics `[series, num_series_statistics(channels)]` of `values [series, steps, channels]` with gaps (NaN).

    For each channel: mean, standard deviation, minimum, maximum, quantiles, slope, mean absolute difference of steps,
    fraction of gaps, positions of minimum and maximum, the means of 8 segments, the autocorrelation at lags of 1, 2, 4
    and 8 steps, and the logarithm of the fraction of the energy in 8 octaves of frequency. For each pair of up to 16
    channels, their correlation; and the logarithm of the number of steps. What is not defined is 0. The other
    series have no effect.

    Example:
        >>> series_statistics(np.arange(6.0)[None, :, None])[0, :4].round(2).tolist()  # mean, deviation, extremes
        [2.5, 1.71, 0.0, 5.0]
    """
    count, _, channels = values.shape
    found = np.empty((count, num_series_statistics(channels)))
    one = np.ascontiguousarray(values.astype(np.float64).transpose(0, 2, 1))  # [series, channels, steps]
    has_gaps = np.isnan(one).any((1, 2))
    for some, statistics in ((~has_gaps, _WITHOUT_GAPS), (has_gaps, _WITH_GAPS)):
        if some.any():
            found[some] = _of_channels(one[some], statistics)
    return found


def _of_channels(one: np.ndarray, statistics: _Statistics) -> np.ndarray:
    """The statistics of series `[series, channels, steps]`."""
    count, channels, steps = one.shape
    known = ~np.isnan(one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # statistics of an empty channel become 0 below
        mean, std, low, high = (statistic(one, axis=2) for statistic in statistics[:4])
        quantiles = statistics.quantile(one, QUANTILES, axis=2)
        step = statistics.mean(np.abs(np.diff(one)), axis=2) if steps > 1 else np.zeros((count, channels))
        segments = [statistics.mean(part, axis=2) for part in _segments(one)]
    filled = np.where(known, one - mean[..., None], 0.0)  # a gap has the mean of the channel
    slope = (filled * np.linspace(-1, 1, steps)).mean(2)
    last = max(1, steps - 1)
    places = [np.where(known, one, np.inf).argmin(2) / last, np.where(known, one, -np.inf).argmax(2) / last]
    energy = (filled * filled).sum(2)
    lags = [_ratio((filled[..., lag:] * filled[..., :-lag]).sum(2), energy) for lag in LAGS]
    parts = [mean, std, low, high, *quantiles, slope, step, 1 - known.mean(2), *places, *segments, *lags]
    found = [*parts, *_bands(filled), _correlations(filled, energy), np.full((count, 1), np.log(steps))]
    return np.nan_to_num(np.concatenate(found, axis=1), posinf=0.0, neginf=0.0)


def _segments(values: np.ndarray) -> list[np.ndarray]:
    """`SEGMENTS` consecutive parts of about equal length, each of at least one step."""
    steps = values.shape[2]
    bounds = [(part * steps // SEGMENTS, (part + 1) * steps // SEGMENTS) for part in range(SEGMENTS)]
    return [values[..., start : max(start + 1, end)] for start, end in bounds]


def _bands(filled: np.ndarray) -> list[np.ndarray]:
    """The logarithm of the fraction of the energy in each octave below half the sampling rate; the last holds all
    lower frequencies."""
    power = np.abs(np.fft.rfft(filled)[..., 1:]) ** 2
    frequency = np.arange(1, power.shape[2] + 1) / filled.shape[2]
    octave = np.minimum(np.floor(-np.log2(2 * frequency)), BANDS - 1)
    total = power.sum(2)
    return [np.log10(_ratio(power[..., octave == band].sum(2), total) + 1e-4) for band in range(BANDS)]


def _correlations(filled: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """The correlations `[series, pairs]` of channels."""
    count, channels, _ = filled.shape
    if channels > MAX_CORRELATED:
        return np.zeros((count, 0))
    first, second = np.triu_indices(channels, 1)
    products = (filled[:, first] * filled[:, second]).sum(2)
    return _ratio(products, np.sqrt(energy[:, first] * energy[:, second]))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 1e-12)
