"""The frames that stand for a clip: those in the middle of its longest scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from polymodal.core.errors import DataError
from polymodal.data.media.source import MediaError, read_bytes
from polymodal.data.media.video import VideoRequest
from polymodal.data.media.workers.pool import decoding_pool
from polymodal.recipe.data import LimitOptions


class Keyframe(NamedTuple):
    """A frame of a clip: its seconds from the first frame, and its picture."""

    seconds: float
    picture: Image.Image


def keyframes(
    clip: Any,
    count: int,
    *,
    pixels: int = 224,
    root: Path | str | None = None,
    limits: LimitOptions | None = None,
) -> list[Keyframe]:
    """At most `count` frames of a clip in order of time: the one in the middle of each of its longest scenes, or more
    of a scene where there are fewer scenes (`data.media.frame_sampling.scenes`).

    A model whose clips have the options `sampling: scene` and `frames: count` reads these frames and no others. Scenes
    are told apart by how much a frame differs from the one before, and nothing is learned: a frame is chosen for how
    long its scene lasts, not for what it shows.

    clip: a cell of a table, as a path below `root` or encoded bytes
    pixels: height and width of the pictures; an oblong frame gets black bars

    Raises:
        DataError: the clip cannot be read.
    """
    limits = limits or LimitOptions()
    try:
        data, _ = read_bytes(clip, Path(root) if root is not None else None, limits)
    except MediaError as error:
        raise DataError(f"the clip cannot be read: {error}") from None
    request = VideoRequest(frames=count, side=pixels, fit="pad", sampling="scene")
    (found,) = decoding_pool(limits).map([(data, request)], single=True)
    if isinstance(found, MediaError):
        raise DataError(f"the clip cannot be read: {found}")
    return [
        Keyframe(float(seconds), Image.fromarray(frame))
        for seconds, frame in zip(found["times"], found["pixels"], strict=True)
    ]
