"""File metadata: sizes, lengths and rates from the header, read in the same guarded way as the content."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from polymodal.data.media.audio import read_header
from polymodal.data.media.image import read_image_size
from polymodal.data.media.time_series import read_file
from polymodal.data.media.video import read_video_metadata
from polymodal.recipe.data import LimitOptions

_NUMBERS = {
    "image": ("width", "height"),
    "audio": ("seconds", "sampling_rate", "channels"),
    "video": ("seconds", "frames", "width", "height"),
    "time_series": ("rows", "columns", "rows_are_steps"),
}


@dataclass(frozen=True)
class ProbeRequest:
    """The kind of media of the file: image, audio, video or time_series."""

    media: str


def layout(request: ProbeRequest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """One number per field (see `MediaMetadata`), NaN if unknown. A time series also has `column_names`: UTF-8,
    separated by NUL."""
    numbers: dict[str, tuple[str, tuple[int, ...]]] = dict.fromkeys(_NUMBERS[request.media], ("float64", ()))
    return {**numbers, "column_names": ("uint8", ())} if request.media == "time_series" else numbers


def decode(data: bytes, request: ProbeRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """The fields of `layout`; `{}` for the audio of a video without audio.

    Images, audio and videos are not decoded. A time series is read to its end, since only this gives its length.

    Raises:
        MediaError: not a file of this kind, or damaged where it was read; for a video or a time series also if it is
            over a limit.
        MissingExtraError: the packages that read audio or videos are not installed.
    """
    return _READERS[request.media](data, limits)


def _image(data: bytes, limits: LimitOptions) -> dict[str, np.ndarray]:
    return _numbers("image", *read_image_size(data, limits))


def _audio(data: bytes, limits: LimitOptions) -> dict[str, np.ndarray]:
    header = read_header(data)
    return {} if header is None else _numbers("audio", header.seconds, header.sampling_rate, header.channels)


def _video(data: bytes, limits: LimitOptions) -> dict[str, np.ndarray]:
    header = read_video_metadata(data, limits)
    return _numbers("video", header.seconds, header.frames, header.width, header.height)


def _time_series(data: bytes, limits: LimitOptions) -> dict[str, np.ndarray]:
    raw = read_file(data, limits)
    rows, columns = raw.values.shape if raw.values.ndim == 2 else (len(raw.values), None)
    names = np.frombuffer("\0".join(raw.column_names).encode(), np.uint8)
    return {**_numbers("time_series", rows, columns, raw.rows_are_steps), "column_names": names}


_READERS: dict[str, Callable[[bytes, LimitOptions], dict[str, np.ndarray]]] = {
    "image": _image,
    "audio": _audio,
    "video": _video,
    "time_series": _time_series,
}


def _numbers(media: str, *values: float | None) -> dict[str, np.ndarray]:
    known = (math.nan if value is None else value for value in values)
    return {name: np.array(value, np.float64) for name, value in zip(_NUMBERS[media], known, strict=True)}
