"""What a file says of itself: sizes, lengths and rates from its header, read as guardedly as the rest of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from polymodal.data.media.audio import header
from polymodal.data.media.image import image_size
from polymodal.data.media.time_series import read_file
from polymodal.data.media.video import clip_facts
from polymodal.recipe.data import LimitOptions

_NUMBERS = {
    "image": ("width", "height"),
    "audio": ("seconds", "rate", "channels"),
    "video": ("seconds", "frames", "width", "height"),
    "series": ("rows", "columns", "lines"),
}


@dataclass(frozen=True)
class ProbeRequest:
    """The kind of media that a file is asked as: image, audio, video or series."""

    media: str


def layout(request: ProbeRequest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """One number each (see `Facts`), NaN where the file does not tell; of a series also `names`: UTF-8, NUL between."""
    numbers: dict[str, tuple[str, tuple[int, ...]]] = dict.fromkeys(_NUMBERS[request.media], ("float64", ()))
    return {**numbers, "names": ("uint8", ())} if request.media == "series" else numbers


def decode(data: bytes, request: ProbeRequest, limits: LimitOptions) -> dict[str, np.ndarray]:
    """The fields of `layout`; `{}` for a clip without sound that is asked for its sound.

    Images, sounds and clips are not decoded. A series is read to its end, since only that tells its length.

    Raises:
        MediaError: not a file of this kind, or damaged where it was read; a clip or a series also if over a limit.
        MissingExtraError: the packages that read sounds or clips are not installed.
    """
    return _READERS[request.media](data, limits)


def _image(data: bytes, limits: LimitOptions) -> dict[str, np.ndarray]:
    return _numbers("image", *image_size(data))


def _audio(data: bytes, limits: LimitOptions) -> dict[str, np.ndarray]:
    found = header(data)
    return {} if found is None else _numbers("audio", found.seconds, found.rate, found.channels)


def _video(data: bytes, limits: LimitOptions) -> dict[str, np.ndarray]:
    found = clip_facts(data, limits)
    return _numbers("video", found.seconds, found.frames, found.width, found.height)


def _series(data: bytes, limits: LimitOptions) -> dict[str, np.ndarray]:
    raw = read_file(data, limits)
    rows, columns = raw.values.shape if raw.values.ndim == 2 else (len(raw.values), None)
    names = np.frombuffer("\0".join(raw.names).encode(), np.uint8)
    return {**_numbers("series", rows, columns, raw.lines), "names": names}


_READERS: dict[str, Callable[[bytes, LimitOptions], dict[str, np.ndarray]]] = {
    "image": _image,
    "audio": _audio,
    "video": _video,
    "series": _series,
}


def _numbers(media: str, *values: float | None) -> dict[str, np.ndarray]:
    known = (math.nan if value is None else value for value in values)
    return {name: np.array(value, np.float64) for name, value in zip(_NUMBERS[media], known, strict=True)}
