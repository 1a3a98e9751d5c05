"""Corruptions of time series, for robustness tests."""

from __future__ import annotations

import math

import numpy as np


def corrupt_series(
    values: np.ndarray, length: np.ndarray, std: np.ndarray, kind: str, strength: float, draw: np.random.Generator
) -> np.ndarray:
    """Corrupt `values [items, steps, channels]`, NaN in gaps; see `TimeSeries.corrupt`."""
    items, steps, channels = values.shape
    if kind == "noise":
        return values + 2 * strength * std * draw.normal(size=values.shape)
    if kind == "drift":
        return values + 3 * strength * std * _trend(items, steps, channels, draw)
    if kind == "scale":
        factor = np.exp(strength * math.log(4) * draw.uniform(-1, 1, (items, 1, channels)))
        return values * factor
    step = np.arange(steps)
    if kind == "gaps":
        size = np.rint(0.9 * strength * length)[:, None, None]
        start = np.floor(draw.random((items, 1, channels)) * (length[:, None, None] - size + 1))
        inside = (step[:, None] >= start) & (step[:, None] < start + size)
        return np.where(inside, np.nan, values)
    late = np.rint(strength * 0.5 * length).astype(np.int64)[:, None]
    moved = np.take_along_axis(values, np.maximum(step - late, 0)[:, :, None], axis=1)
    return np.where((step < late)[:, :, None], np.nan, moved)


def _trend(items: int, steps: int, channels: int, draw: np.random.Generator) -> np.ndarray:
    """Two slow half-waves of random size for each channel, from -1 to 1 at most."""
    time = np.linspace(0, 1, steps)[None, :, None]
    slope, bend = draw.uniform(-0.5, 0.5, (2, items, 1, channels))
    return slope * 2 * time + bend * (1 - np.cos(np.pi * time))
