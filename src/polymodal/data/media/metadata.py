"""Header metadata of sampled files, read in the decoding processes: no header is opened in this process."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from polymodal.data.media.formats import detect_format
from polymodal.data.media.probe import ProbeRequest
from polymodal.data.media.source import MediaError, read_bytes
from polymodal.data.objects import Root
from polymodal.recipe.data import LimitOptions


@dataclass(frozen=True)
class MediaMetadata:
    """Metadata in the header of a file. A field is None if the header lacks it, or if it does not apply to this kind of
    media.

    format: detected from the first bytes
    seconds: of audio or video
    frames: number of frames of a video
    width, height: of an image (upright, by EXIF) or of a frame, in pixels
    sampling_rate, channels: of audio; None for a video without audio
    rows, columns: of a time series, `columns` only if it has two dimensions
    rows_are_steps: 1 if the rows of a time series are certainly its steps
    column_names: of a time series
    """

    format: str | None
    seconds: float | None = None
    frames: float | None = None
    width: float | None = None
    height: float | None = None
    sampling_rate: float | None = None
    channels: float | None = None
    rows: float | None = None
    columns: float | None = None
    rows_are_steps: float | None = None
    column_names: tuple[str, ...] = ()


def read_metadata(
    media: str, cells: Iterable[Any], root: Root | None, limits: LimitOptions
) -> Iterator[MediaMetadata | MediaError]:
    """The metadata of each of `cells` (paths below `root`, bytes, `data:` addresses, records of `bytes` and `path`) in
    order; a `MediaError` for a cell that cannot be read.

    Raises:
        MissingExtraError: a package that reads such media is not installed.
        PolymodalError: no decoding process can be started.
    """
    from polymodal.data.media.workers.pool import decoding_pool  # processes: only models of media need them

    request = ProbeRequest(media)
    read: deque[str | MediaError | None] = deque()

    def jobs() -> Iterator[tuple[bytes, ProbeRequest]]:
        for cell in cells:
            try:
                data, _ = read_bytes(cell, root, limits)
            except MediaError as error:
                read.append(error)
            else:
                read.append(detect_format(data))
                yield data, request

    for result in decoding_pool(limits).map(jobs(), single=True):
        while isinstance(detected := read.popleft(), MediaError):
            yield detected
        yield result if isinstance(result, MediaError) else _to_metadata(detected, result)
    for error in read:
        assert isinstance(error, MediaError)
        yield error


def _to_metadata(detected: str | None, fields: dict[str, np.ndarray]) -> MediaMetadata:
    numbers = {name: _number(array) for name, array in fields.items() if name != "column_names"}
    text = fields["column_names"].tobytes().decode(errors="replace") if "column_names" in fields else ""
    return MediaMetadata(detected, **numbers, column_names=tuple(text.split("\0")) if text else ())


def _number(array: np.ndarray) -> float | None:
    return float(array.item()) if array.size == 1 and math.isfinite(array.item()) else None
