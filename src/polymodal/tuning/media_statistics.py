"""What can be said of a picture, a sound, a clip or a series in a few hundred numbers, without learning anything."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from polymodal.data.store.items import Items
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions

#: Items that are described at once.
BATCH_SIZE = 64
StatisticsFunction = Callable[[dict[str, np.ndarray], dict[str, Any]], np.ndarray]


def summary_statistics(items: Items, modality: str, shape: dict[str, Any]) -> np.ndarray:
    """The statistics of every item, `[items, n]` float32; see the function of each modality.

    shape: what the modality says of its items
    """
    describe = STATISTICS[modality]
    parts = [
        describe(items.take(np.arange(start, min(start + BATCH_SIZE, len(items)))), shape)
        for start in range(0, len(items), BATCH_SIZE)
    ]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, 0), np.float32)


def image_statistics(arrays: dict[str, np.ndarray], shape: dict[str, Any]) -> np.ndarray:
    """Of `pixels [items, side, side, 3]`: shares of 64 colours, mean colours of 4 x 4 fields, and in 2 x 2 fields how
    strong edges of 8 directions are (Dalal and Triggs, "Histograms of oriented gradients for human detection", 2005,
    without blocks)."""
    pixels = arrays["pixels"]
    return np.concatenate([_color_histogram(pixels), _mean_colors(pixels, 4), _edge_histogram(pixels)], axis=1)


def video_statistics(arrays: dict[str, np.ndarray], shape: dict[str, Any]) -> np.ndarray:
    """Of `pixels [items, frames, side, side, 3]`: the mean over frames of what `pictures` says, the deviation of the
    mean colours, and the mean change of each field from frame to frame."""
    rows = []
    for frames, length in zip(arrays["pixels"], arrays["length"], strict=True):
        frames = frames[: max(1, int(length))]
        fields = _mean_colors(frames, 4)
        change = np.abs(np.diff(fields, axis=0)).mean(0) if len(frames) > 1 else np.zeros(fields.shape[1])
        rows.append(np.concatenate([image_statistics({"pixels": frames}, shape).mean(0), fields.std(0), change]))
    return np.stack(rows)


def audio_statistics(arrays: dict[str, np.ndarray], shape: dict[str, Any]) -> np.ndarray:
    """Of `values [items, samples, channels]` int16: mean and deviation over time of 40 log-mel bands on the fixed scale
    of the Whisper models, the mean change of each from frame to frame, and the logarithm of the seconds."""
    window = max(0.04, 640 / shape["rate"])  # low rates need a longer one to tell 40 bands apart
    options = LogMelOptions(name="statistics", n_mels=40, window_seconds=window, hop_seconds=window / 2, normalization="whisper")
    front = LogMel(options, shape["rate"]).eval()
    sound = torch.from_numpy(arrays["values"].astype(np.float32).mean(2) / 32_768).unsqueeze(1)
    length = torch.from_numpy(arrays["length"])
    mel, frames = front(sound, length)
    rows = []
    for one, count, samples in zip(mel[:, 0].numpy(), frames.tolist(), length.tolist(), strict=True):
        bands = one[:count]
        change = np.abs(np.diff(bands, axis=0)).mean(0) if count > 1 else np.zeros(bands.shape[1])
        seconds = np.log1p(samples / shape["rate"])
        rows.append(np.concatenate([bands.mean(0), bands.std(0), change, [seconds]]))
    return np.stack(rows)


def time_series_statistics(arrays: dict[str, np.ndarray], shape: dict[str, Any]) -> np.ndarray:
    """Of each channel of `values [items, steps, channels]`, gaps (NaN) left out: mean, deviation, extremes, quantiles,
    the slope over the steps, the mean absolute step and the share of gaps; and the logarithm of the number of steps."""
    rows = []
    for values, length in zip(arrays["values"], arrays["length"], strict=True):
        one = values[: max(1, int(length))].astype(np.float64)
        place = np.linspace(-1, 1, len(one))[:, None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a channel without a value: its numbers become 0 below
            mean = np.nanmean(one, axis=0)
            slope = np.nanmean((one - mean) * place, axis=0)
            quantiles = np.nanquantile(one, [0.1, 0.25, 0.5, 0.75, 0.9], axis=0)
            step = np.nanmean(np.abs(np.diff(one, axis=0)), axis=0) if len(one) > 1 else np.zeros(one.shape[1])
            parts = [mean, np.nanstd(one, axis=0), np.nanmin(one, axis=0), np.nanmax(one, axis=0), *quantiles]
        gaps = np.isnan(one).mean(0)
        rows.append(np.concatenate([*parts, slope, step, gaps, [np.log(len(one))]]))
    return np.nan_to_num(np.stack(rows), posinf=0.0, neginf=0.0)


STATISTICS: dict[str, StatisticsFunction] = {"image": image_statistics, "video": video_statistics, "audio": audio_statistics, "series": time_series_statistics}


def _color_histogram(pixels: np.ndarray) -> np.ndarray:
    """Shares of 4 x 4 x 4 colours, `[items, 64]`."""
    level = (pixels >> 6).astype(np.int64).reshape(len(pixels), -1, 3)
    code = level @ np.array([16, 4, 1]) + 64 * np.arange(len(pixels))[:, None]
    return np.bincount(code.ravel(), minlength=64 * len(pixels)).reshape(-1, 64) / code.shape[1]


def _mean_colors(pixels: np.ndarray, side: int) -> np.ndarray:
    """Mean colours of `side` x `side` fields, from 0 to 1, `[items, 3 side side]`."""
    cut = pixels.shape[1] // side * side
    fields = pixels[:, :cut, :cut].reshape(len(pixels), side, cut // side, side, cut // side, 3)
    return fields.mean((2, 4), dtype=np.float32).reshape(len(pixels), -1) / 255


def _edge_histogram(pixels: np.ndarray) -> np.ndarray:
    """Strength of edges of 8 directions in 2 x 2 fields, `[items, 32]`."""
    grey = pixels.mean(3, dtype=np.float32) / 255
    down, right = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(down, right)
    direction = ((np.arctan2(down, right) % np.pi) * (8 / np.pi)).astype(np.int64).clip(0, 7)
    field = np.arange(grey.shape[1]) * 2 // grey.shape[1]
    code = direction + 8 * (2 * field[:, None] + field) + 32 * np.arange(len(grey))[:, None, None]
    found = np.bincount(code.ravel(), strength.ravel(), minlength=32 * len(grey)).reshape(-1, 32)
    return np.asarray(found / grey[0].size)
