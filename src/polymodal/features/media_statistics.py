"""Fixed statistics of images, audio, videos and time series: a few hundred numbers per item, without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from polymodal.data.store.items import Items
from polymodal.features.image_statistics import NUM_IMAGE_STATISTICS, image_statistics, mean_colors
from polymodal.features.series_statistics import num_series_statistics, series_statistics
from polymodal.nn.encoders.logmel import LogMel, LogMelOptions
from polymodal.nn.encoders.windowed import MAX_WINDOWS, split_records

#: Number of items per batch, and most bytes of them.
BATCH_ITEMS, BATCH_BYTES = 64, 32 * 2**20
#: Sides of the grid of mean colors of a video, and the number of its parts in time.
GRID, VIDEO_PARTS = 4, 3
NUM_BANDS, BANDS_PER_GROUP, AUDIO_QUANTILES, AUDIO_PARTS = 40, 4, (0.1, 0.5, 0.9), 4
_NUM_AUDIO = (3 + len(AUDIO_QUANTILES)) * NUM_BANDS + AUDIO_PARTS * NUM_BANDS // BANDS_PER_GROUP + 1

Shape = dict[str, Any]
Arrays = dict[str, np.ndarray]


class MediaStatistics(NamedTuple):
    """The statistics of a modality: their number, and the function that computes them, `[items, number]`."""

    count: Callable[[Shape], int]
    compute: Callable[[Arrays, Shape], np.ndarray]


def num_statistics(modality: str, shape: Shape) -> int:
    """The number of statistics of an item."""
    return STATISTICS[modality].count(shape)


def summary_statistics(items: Items, ids: np.ndarray, modality: str, shape: Shape) -> np.ndarray:
    """The statistics `[n, number]` float32 of the items `ids [n]`; see the function of each modality. Those of an item
    do not depend on the other items. Those of an item with several windows are the mean over its windows.

    shape: the shape information of the modality
    """
    size = int(np.clip(BATCH_BYTES / max(items.item_bytes(), 1.0), 1, BATCH_ITEMS)) if len(items) else 1
    compute = STATISTICS[modality].compute if MAX_WINDOWS not in shape else _mean_over_windows(modality)
    parts = [compute(items.take(ids[start : start + size]), shape) for start in range(0, len(ids), size)]
    return np.concatenate([np.zeros((0, num_statistics(modality, shape))), *parts]).astype(np.float32)


def video_statistics(pixels: np.ndarray) -> np.ndarray:
    """Statistics of a video, `pixels [frames, height, width, 3]` uint8: the mean over frames of `image_statistics`; of
    the mean colors of 4 x 4 cells the standard deviation over frames, the mean absolute change from frame to frame, and
    the means over three parts of the video minus the mean over all."""
    cells = mean_colors(pixels, GRID).reshape(len(pixels), -1)
    change = np.abs(np.diff(cells, axis=0)).mean(0) if len(cells) > 1 else np.zeros(cells.shape[1])
    course = [part.mean(0) - cells.mean(0) for part in _parts(cells, VIDEO_PARTS)]
    return np.concatenate([image_statistics(pixels).mean(0), cells.std(0), change, *course])


def audio_statistics(samples: np.ndarray, log_mel: LogMel) -> np.ndarray:
    """Statistics of a recording, `samples [samples, channels]` int16, from 40 log-mel bands (with the normalization of
    Whisper, which keeps the loudness): mean, standard deviation, quantiles, and standard deviation of the change from
    frame to frame; the means of groups of four bands in four parts of the recording, minus those of all; and the
    logarithm of the duration."""
    waveform = torch.from_numpy(samples.astype(np.float32).mean(1) / 32_768)[None, None]
    mel, frames = log_mel(waveform, torch.tensor([len(samples)]))
    bands = mel[0, 0, : int(frames[0])].numpy()
    change = np.diff(bands, axis=0).std(0) if len(bands) > 1 else np.zeros(NUM_BANDS)
    coarse = bands.reshape(len(bands), -1, BANDS_PER_GROUP).mean(2)
    course = [part.mean(0) - coarse.mean(0) for part in _parts(coarse, AUDIO_PARTS)]
    seconds = np.log1p(len(samples) / log_mel.sampling_rate)
    quantiles = np.quantile(bands, AUDIO_QUANTILES, axis=0)
    return np.concatenate([bands.mean(0), bands.std(0), *quantiles, change, *course, [seconds]])


def _parts(values: np.ndarray, count: int) -> list[np.ndarray]:
    """`count` consecutive parts of about equal length, each of at least one step."""
    bounds = [(part * len(values) // count, (part + 1) * len(values) // count) for part in range(count)]
    return [values[start : max(start + 1, end)] for start, end in bounds]


def _mean_over_windows(modality: str) -> Callable[[Arrays, Shape], np.ndarray]:
    """The function that computes the statistics of each window of the items, and averages them."""

    def compute(arrays: Arrays, shape: Shape) -> np.ndarray:
        windows, parts = split_records({name: torch.from_numpy(array) for name, array in arrays.items()}, shape)
        found = STATISTICS[modality].compute({name: tensor.numpy() for name, tensor in parts.items()}, shape)
        return np.asarray(windows.mean(torch.from_numpy(found)))

    return compute


def _of_images(arrays: Arrays, shape: Shape) -> np.ndarray:
    return image_statistics(arrays["pixels"])


def _of_videos(arrays: Arrays, shape: Shape) -> np.ndarray:
    pairs = zip(arrays["pixels"], arrays["length"].tolist(), strict=True)
    return np.stack([video_statistics(pixels[: max(1, length)]) for pixels, length in pairs])


def _of_audio(arrays: Arrays, shape: Shape) -> np.ndarray:
    window = max(0.04, 640 / shape["rate"])  # low sampling rates need a longer window for 40 bands
    options = LogMelOptions(
        name="statistics",
        n_mels=NUM_BANDS,
        window_seconds=window,
        hop_seconds=window / 2,
        normalization="whisper",
    )
    log_mel = LogMel(options, shape["rate"]).eval()
    pairs = zip(arrays["values"], arrays["length"].tolist(), strict=True)
    return np.stack([audio_statistics(samples[: max(1, length)], log_mel) for samples, length in pairs])


def _of_series(arrays: Arrays, shape: Shape) -> np.ndarray:
    values, lengths = arrays["values"], np.maximum(arrays["length"], 1)
    found = np.zeros((len(values), num_series_statistics(values.shape[2])))
    for length in np.unique(lengths):
        found[lengths == length] = series_statistics(values[lengths == length, :length])
    return found


STATISTICS = {
    "image": MediaStatistics(lambda shape: NUM_IMAGE_STATISTICS, _of_images),
    "video": MediaStatistics(lambda shape: NUM_IMAGE_STATISTICS + (2 + VIDEO_PARTS) * 3 * GRID**2, _of_videos),
    "audio": MediaStatistics(lambda shape: _NUM_AUDIO, _of_audio),
    "time_series": MediaStatistics(lambda shape: num_series_statistics(shape["channels"]), _of_series),
}
