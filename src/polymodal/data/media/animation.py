"""Frames of animated images: GIF, WebP and PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image, UnidentifiedImageError

from polymodal.data.media.frame_sampling import FrameTimeline
from polymodal.data.media.image import translate_errors
from polymodal.data.media.source import MediaError
from polymodal.data.media.video_reader import DAMAGED, check_seconds, check_size
from polymodal.recipe.data import LimitOptions

FORMATS = ("GIF", "WEBP", "PNG")
#: Milliseconds that a frame without a duration is shown, as in browsers.
DEFAULT_FRAME_MS = 100


def is_animated(data: bytes) -> bool:
    """Whether a file of an animation format has more than one frame, from its headers.

    Raises:
        MediaError: the file is damaged.
    """
    with translate_errors("animation", DAMAGED):
        return getattr(_open(data), "n_frames", 1) > 1


class Animation:
    """Rendered frames: each is composed with the frames before it, and transparency becomes white.

    A file with one frame is a video of one frame.

    Raises:
        MediaError: the file is damaged, or over a limit.
    """

    def __init__(self, data: bytes, limits: LimitOptions) -> None:
        with translate_errors("animation", DAMAGED):
            self._image = _open(data)
            self.size = self._image.size
            check_size(*self.size, limits)
            self.num_frames = int(getattr(self._image, "n_frames", 1))
        if self.num_frames > limits.frames:
            raise MediaError(f"the animation has {self.num_frames} frames, over the limit of {limits.frames}")
        self.limits = limits

    def timeline(self) -> FrameTimeline:
        """When each frame is shown, in milliseconds. A frame without a duration is shown for 100 ms, as in browsers."""
        starts, now = [], 0
        with translate_errors("animation", DAMAGED):
            for number in range(self.num_frames):
                self._image.seek(number)
                if self._image.format == "WEBP":
                    self._image.load()  # sets the duration
                starts.append(now)
                now += round(self._image.info.get("duration") or 0) or DEFAULT_FRAME_MS
                check_seconds(now / 1000, self.limits)
        return FrameTimeline(starts, now, 0.001)

    def frames(self) -> Iterator[Image.Image]:
        """All frames in order, as RGB."""
        for number in range(self.num_frames):
            with translate_errors("animation", DAMAGED):
                self._image.seek(number)
                layer = self._image.convert("RGBA")
                paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
                frame = Image.alpha_composite(paper, layer).convert("RGB")
            yield frame


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise MediaError("not an animation of a known format (GIF, WebP, PNG)") from error
