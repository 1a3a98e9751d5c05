"""Representative frames of a video: those at the centers of its longest scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from polymodal.core.errors import DataError
from polymodal.data.media.source import MediaError, read_bytes
from polymodal.data.media.video import VideoRequest
from polymodal.data.media.workers.pool import decoding_pool
from polymodal.data.objects import as_root
from polymodal.recipe.data import LimitOptions


class Keyframe(NamedTuple):
    """A frame of a video: its time in seconds from the first frame, and its image."""

    seconds: float
    image: Image.Image


def keyframes(
    video: Any,
    count: int,
    *,
    pixels: int = 224,
    root: Path | str | None = None,
    limits: LimitOptions | None = None,
) -> list[Keyframe]:
    """At most `count` frames of a video in order of time: the frame at the center of each of the longest scenes, or
    several frames of a scene if there are fewer scenes (`data.media.frame_sampling.scene_frames`).

    A video input with the options `sampling: scene` and `num_frames: count` uses exactly these frames. Scenes are
    detected from the difference of successive frames, without a learned model. A frame is chosen for the length of its
    scene, not for its content.

    video: a cell of a table, such as a path below `root` or encoded bytes
    pixels: height and width of the images. A rectangular frame gets black bars

    Raises:
        DataError: the video cannot be read.
    """
    limits = limits or LimitOptions()
    try:
        data, _ = read_bytes(video, as_root(root), limits)
    except MediaError as error:
        raise DataError(f"the video cannot be read: {error}") from None
    request = VideoRequest(num_frames=count, image_size=pixels, resize_mode="pad", sampling="scene")
    (result,) = decoding_pool(limits).map([(data, request)], single=True)
    if isinstance(result, MediaError):
        raise DataError(f"the video cannot be read: {result}")
    return [
        Keyframe(float(seconds), Image.fromarray(frame))
        for seconds, frame in zip(result["times"], result["pixels"], strict=True)
    ]
