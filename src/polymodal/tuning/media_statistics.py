"""Fixed statistics of images, audio, videos and time series: a few hundred numbers per item, without training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from polymodal.data.store.items import Items
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions

#: Number of items per batch.
BATCH_SIZE = 64
StatisticsFunction = Callable[[dict[str, np.ndarray], dict[str, Any]], np.ndarray]


def summary_statistics(items: Items, modality: str, shape: dict[str, Any]) -> np.ndarray:
    """The statistics `[items, n]` float32 of every item; see the function of each modality.

    shape: the shape information of the modality
    """
    statistics = STATISTICS[modality]
    parts = [
        statistics(items.take(np.arange(start, min(start + BATCH_SIZE, len(items)))), shape)
        for start in range(0, len(items), BATCH_SIZE)
    ]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, 0), np.float32)


def image_statistics(arrays: dict[str, np.ndarray], shape: dict[str, Any]) -> np.ndarray:
    """Statistics of `pixels [items, side, side, 3]`: a histogram of 64 colors, the mean colors of 4 x 4 cells, and
    histograms of 8 edge orientations in 2 x 2 cells (Dalal and Triggs, "Histograms of oriented gradients for human
    detection", 2005, without block normalization)."""
    pixels = arrays["pixels"]
    return np.concatenate([_color_histogram(pixels), _mean_colors(pixels, 4), _edge_histogram(pixels)], axis=1)


def video_statistics(arrays: dict[str, np.ndarray], shape: dict[str, Any]) -> np.ndarray:
    """Statistics of `pixels [items, frames, side, side, 3]`: the mean over frames of `image_statistics`, the standard
    deviation of the mean colors, and the mean change of each cell between frames."""
    rows = []
    for frames, length in zip(arrays["pixels"], arrays["length"], strict=True):
        frames = frames[: max(1, int(length))]
        cells = _mean_colors(frames, 4)
        change = np.abs(np.diff(cells, axis=0)).mean(0) if len(frames) > 1 else np.zeros(cells.shape[1])
        rows.append(np.concatenate([image_statistics({"pixels": frames}, shape).mean(0), cells.std(0), change]))
    return np.stack(rows)


def audio_statistics(arrays: dict[str, np.ndarray], shape: dict[str, Any]) -> np.ndarray:
    """Statistics of `values [items, samples, channels]` int16: mean and standard deviation over time of 40 log-mel
    bands (with the normalization of Whisper), the mean change of each band between frames, and the log duration."""
    window = max(0.04, 640 / shape["rate"])  # low sampling rates need a longer window for 40 bands
    options = LogMelOptions(
        name="statistics", n_mels=40, window_seconds=window, hop_seconds=window / 2, normalization="whisper"
    )
    log_mel = LogMel(options, shape["rate"]).eval()
    waveform = torch.from_numpy(arrays["values"].astype(np.float32).mean(2) / 32_768).unsqueeze(1)
    length = torch.from_numpy(arrays["length"])
    mel, frames = log_mel(waveform, length)
    rows = []
    for one, count, samples in zip(mel[:, 0].numpy(), frames.tolist(), length.tolist(), strict=True):
        bands = one[:count]
        change = np.abs(np.diff(bands, axis=0)).mean(0) if count > 1 else np.zeros(bands.shape[1])
        seconds = np.log1p(samples / shape["rate"])
        rows.append(np.concatenate([bands.mean(0), bands.std(0), change, [seconds]]))
    return np.stack(rows)


def time_series_statistics(arrays: dict[str, np.ndarray], shape: dict[str, Any]) -> np.ndarray:
    """Statistics of each channel of `values [items, steps, channels]`, ignoring gaps (NaN): mean, standard deviation,
    minimum, maximum, quantiles, slope, mean absolute difference of steps and fraction of gaps; and the log number of
    steps."""
    rows = []
    for values, length in zip(arrays["values"], arrays["length"], strict=True):
        one = values[: max(1, int(length))].astype(np.float64)
        time = np.linspace(-1, 1, len(one))[:, None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # statistics of an empty channel become 0 below
            mean = np.nanmean(one, axis=0)
            slope = np.nanmean((one - mean) * time, axis=0)
            quantiles = np.nanquantile(one, [0.1, 0.25, 0.5, 0.75, 0.9], axis=0)
            step = np.nanmean(np.abs(np.diff(one, axis=0)), axis=0) if len(one) > 1 else np.zeros(one.shape[1])
            parts = [mean, np.nanstd(one, axis=0), np.nanmin(one, axis=0), np.nanmax(one, axis=0), *quantiles]
        gaps = np.isnan(one).mean(0)
        rows.append(np.concatenate([*parts, slope, step, gaps, [np.log(len(one))]]))
    return np.nan_to_num(np.stack(rows), posinf=0.0, neginf=0.0)


STATISTICS: dict[str, StatisticsFunction] = {
    "image": image_statistics,
    "video": video_statistics,
    "audio": audio_statistics,
    "time_series": time_series_statistics,
}


def _color_histogram(pixels: np.ndarray) -> np.ndarray:
    """Histogram of 4 x 4 x 4 colors, `[items, 64]`."""
    level = (pixels >> 6).astype(np.int64).reshape(len(pixels), -1, 3)
    code = level @ np.array([16, 4, 1]) + 64 * np.arange(len(pixels))[:, None]
    return np.bincount(code.ravel(), minlength=64 * len(pixels)).reshape(-1, 64) / code.shape[1]


def _mean_colors(pixels: np.ndarray, side: int) -> np.ndarray:
    """Mean colors of `side` x `side` cells, from 0 to 1, `[items, 3 side side]`."""
    cut = pixels.shape[1] // side * side
    cells = pixels[:, :cut, :cut].reshape(len(pixels), side, cut // side, side, cut // side, 3)
    return cells.mean((2, 4), dtype=np.float32).reshape(len(pixels), -1) / 255


def _edge_histogram(pixels: np.ndarray) -> np.ndarray:
    """Histograms of 8 edge orientations in 2 x 2 cells, `[items, 32]`."""
    gray = pixels.mean(3, dtype=np.float32) / 255
    down, right = np.gradient(gray, axis=(1, 2))
    strength = np.hypot(down, right)
    direction = ((np.arctan2(down, right) % np.pi) * (8 / np.pi)).astype(np.int64).clip(0, 7)
    cell = np.arange(gray.shape[1]) * 2 // gray.shape[1]
    code = direction + 8 * (2 * cell[:, None] + cell) + 32 * np.arange(len(gray))[:, None, None]
    histogram = np.bincount(code.ravel(), strength.ravel(), minlength=32 * len(gray)).reshape(-1, 32)
    return np.asarray(histogram / gray[0].size)
