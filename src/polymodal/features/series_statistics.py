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
    """Statistics of a series `values [steps, channels]` with gaps (NaN), `[num_series_statistics(channels)]`.

    For each channel: mean, standard deviation, minimum, maximum, quantiles, slope, mean absolute difference of steps,
    fraction of gaps, positions of minimum and maximum, the means of 8 segments, the autocorrelation at lags of 1, 2, 4
    and 8 steps, and the logarithm of the fraction of the energy in 8 octaves of frequency. For each pair of up to 16
    channels, their correlation; and the logarithm of the number of steps. What is not defined is 0.

    Example:
        >>> series_statistics(np.arange(6.0)[:, None])[:4].round(2).tolist()  # mean, deviation, minimum, maximum
        [2.5, 1.71, 0.0, 5.0]
    """
    steps, channels = values.shape
    one = values.astype(np.float64)
    known = ~np.isnan(one)
    statistics = _WITHOUT_GAPS if known.all() else _WITH_GAPS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # statistics of an empty channel become 0 below
        mean, std, low, high = (statistic(one, axis=0) for statistic in statistics[:4])
        quantiles = statistics.quantile(one, QUANTILES, axis=0)
        step = statistics.mean(np.abs(np.diff(one, axis=0)), axis=0) if steps > 1 else np.zeros(channels)
        segments = [statistics.mean(part, axis=0) for part in _segments(one)]
    filled = np.where(known, one - mean, 0.0)  # a gap has the mean of the channel
    slope = (filled * np.linspace(-1, 1, steps)[:, None]).mean(0)
    last = max(1, steps - 1)
    places = [np.where(known, one, np.inf).argmin(0) / last, np.where(known, one, -np.inf).argmax(0) / last]
    energy = (filled * filled).sum(0)
    lags = [_ratio((filled[lag:] * filled[:-lag]).sum(0), energy) for lag in LAGS]
    parts = [mean, std, low, high, *quantiles, slope, step, 1 - known.mean(0), *places, *segments, *lags]
    found = [*parts, *_bands(filled), _correlations(filled, energy), np.array([np.log(steps)])]
    return np.nan_to_num(np.concatenate(found), posinf=0.0, neginf=0.0)


def _segments(values: np.ndarray) -> list[np.ndarray]:
    """`SEGMENTS` consecutive parts of about equal length, each of at least one step."""
    steps = len(values)
    bounds = [(part * steps // SEGMENTS, (part + 1) * steps // SEGMENTS) for part in range(SEGMENTS)]
    return [values[start : max(start + 1, end)] for start, end in bounds]


def _bands(filled: np.ndarray) -> list[np.ndarray]:
    """The logarithm of the fraction of the energy in each octave below half the sampling rate; the last holds all
    lower frequencies."""
    power = np.abs(np.fft.rfft(filled, axis=0)[1:]) ** 2
    frequency = np.arange(1, len(power) + 1) / len(filled)
    octave = np.minimum(np.floor(-np.log2(2 * frequency)), BANDS - 1)
    total = power.sum(0)
    return [np.log10(_ratio(power[octave == band].sum(0), total) + 1e-4) for band in range(BANDS)]


def _correlations(filled: np.ndarray, energy: np.ndarray) -> np.ndarray:
    channels = filled.shape[1]
    if channels > MAX_CORRELATED:
        return np.zeros(0)
    first, second = np.triu_indices(channels, 1)
    return _ratio((filled[:, first] * filled[:, second]).sum(0), np.sqrt(energy[first] * energy[second]))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 1e-12)
