"""What sampled files say of themselves, asked of the decoding processes: no header is opened in this process."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.data.media.formats import format_of
from polymodal.data.media.probe import ProbeRequest
from polymodal.data.media.source import MediaError, read_bytes
from polymodal.data.media.workers.pool import decoding_pool
from polymodal.recipe.data import LimitOptions


@dataclass(frozen=True)
class Facts:
    """What the header of a file tells; None where it does not, or where media of this kind have no such thing.

    form: the format, by its first bytes
    seconds: of a sound or a clip; frames: of a clip
    width, height: of an image (before it is turned upright) or of a frame, in pixels
    rate: samples in a second; channels: of a sound. A clip without sound tells neither
    rows, columns: of a series, `columns` only where it has two dimensions; lines: 1 if its rows are steps for certain;
        names: of its columns
    """

    form: str | None
    seconds: float | None = None
    frames: float | None = None
    width: float | None = None
    height: float | None = None
    rate: float | None = None
    channels: float | None = None
    rows: float | None = None
    columns: float | None = None
    lines: float | None = None
    names: tuple[str, ...] = ()


def facts(media: str, cells: Iterable[Any], root: Path | None, limits: LimitOptions) -> Iterator[Facts | MediaError]:
    """What each of `cells` (paths below `root`, bytes, `data:` addresses, records of `bytes` and `path`) tells as media
    of a kind, in order; a `MediaError` for one that cannot be read.

    Raises:
        MissingExtraError: a package that reads such media is not installed.
        PolymodalError: no decoding process can be started.
    """
    request = ProbeRequest(media)
    read: deque[str | MediaError | None] = deque()

    def jobs() -> Iterator[tuple[bytes, ProbeRequest]]:
        for cell in cells:
            try:
                data, _ = read_bytes(cell, root, limits)
            except MediaError as error:
                read.append(error)
            else:
                read.append(format_of(data))
                yield data, request

    for found in decoding_pool(limits).map(jobs(), single=True):
        while isinstance(form := read.popleft(), MediaError):
            yield form
        yield found if isinstance(found, MediaError) else _facts(form, found)
    for error in read:
        assert isinstance(error, MediaError)
        yield error


def _facts(form: str | None, found: dict[str, np.ndarray]) -> Facts:
    numbers = {name: _number(array) for name, array in found.items() if name != "names"}
    text = found["names"].tobytes().decode(errors="replace") if "names" in found else ""
    return Facts(form, **numbers, names=tuple(text.split("\0")) if text else ())


def _number(array: np.ndarray) -> float | None:
    return float(array.item()) if array.size == 1 and math.isfinite(array.item()) else None
